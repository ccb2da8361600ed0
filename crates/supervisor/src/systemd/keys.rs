//! Every key that is known, with what becomes of it: the one table that the reader goes by and that
//! `docs/systemd-units.md` is made from.

use std::fmt::Write;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// It does what systemd's manual says, within what the note says.
    Supported,
    /// It means nothing here, and nothing is lost.
    Accepted,
    /// It is told that this is lost; the unit runs.
    Listed,
    /// It confines the unit, which is refused unless less confinement is allowed.
    Confines,
    /// Without it the unit would do something else: it is refused.
    Refused,
}

/// Keys of a section that the same becomes of.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) section: &'static str,
    pub(super) class: Class,
    /// How it is done, or why it is not.
    pub(super) note: &'static str,
    pub(super) keys: &'static [&'static str],
}

const fn group(
    section: &'static str,
    class: Class,
    note: &'static str,
    keys: &'static [&'static str],
) -> Group {
    Group { section, class, note, keys }
}

use Class::{Accepted, Confines, Listed, Refused, Supported};

#[rustfmt::skip]
pub(super) const KEYS: &[Group] = &[
    group("Unit", Supported, "up (a one-shot: done) before it starts: systemd itself would start both at once without `After=`. Of a target: what it pulls in", &["Requires"]),
    group("Unit", Supported, "started with it and given the chance to come up first. Of a target: what it pulls in; what is not among the files is listed", &["Wants"]),
    group("Unit", Supported, "order; through targets too. What is not among the files has none", &["After", "Before"]),
    group("Unit", Supported, "one path that must be there; `!` and `|` refuse the unit", &["ConditionPathExists"]),
    group("Unit", Supported, "starts within the interval, of which all but the first are restarts: one less of these, at least one", &["StartLimitBurst", "StartLimitIntervalSec", "StartLimitInterval"]),
    group("Unit", Supported, "of a target: `no` takes the order after what it pulls in away; of others it means nothing here", &["DefaultDependencies"]),
    group("Unit", Accepted, "for people, or for what is not here", &["Description", "Documentation", "SourcePath", "RefuseManualStart", "RefuseManualStop", "AllowIsolate", "IgnoreOnIsolate", "StopWhenUnneeded", "CollectMode", "OnFailureJobMode", "OnSuccessJobMode", "SurviveFinalKillSignal", "DebugInvocation"]),
    group("Unit", Listed, "taken as Requires=: when the other one ends by itself, this one goes on", &["BindsTo", "Requisite"]),
    group("Unit", Listed, "taken as Wants=: the other one is not started again by this", &["Upholds"]),
    group("Unit", Listed, "a stop or restart of the other one does not reach this one", &["PartOf", "StopPropagatedFrom", "PropagatesStopTo", "PropagatesReloadTo", "ReloadPropagatedFrom"]),
    group("Unit", Listed, "both can run at once (`shutdown.target` alone means nothing here)", &["Conflicts"]),
    group("Unit", Listed, "nothing is started by an end", &["OnFailure", "OnSuccess"]),
    group("Unit", Listed, "mounts are no units: they have to be there", &["RequiresMountsFor", "WantsMountsFor"]),
    group("Unit", Listed, "there are no jobs", &["JobTimeoutSec", "JobRunningTimeoutSec", "JobTimeoutAction", "JobTimeoutRebootArgument"]),
    group("Unit", Listed, "the machine goes on", &["FailureAction", "SuccessAction", "StartLimitAction", "RebootArgument", "FailureActionExitStatus", "SuccessActionExitStatus"]),
    group("Unit", Refused, "the condition cannot be asked: it would run where it should not", &["ConditionArchitecture", "ConditionFirmware", "ConditionVirtualization", "ConditionHost", "ConditionKernelCommandLine", "ConditionKernelVersion", "ConditionVersion", "ConditionCredential", "ConditionEnvironment", "ConditionSecurity", "ConditionCapability", "ConditionACPower", "ConditionNeedsUpdate", "ConditionFirstBoot", "ConditionPathExistsGlob", "ConditionPathIsDirectory", "ConditionPathIsSymbolicLink", "ConditionPathIsMountPoint", "ConditionPathIsReadWrite", "ConditionPathIsEncrypted", "ConditionPathIsSocket", "ConditionDirectoryNotEmpty", "ConditionFileNotEmpty", "ConditionFileIsExecutable", "ConditionUser", "ConditionGroup", "ConditionControlGroupController", "ConditionMemory", "ConditionCPUs", "ConditionCPUFeature", "ConditionOSRelease", "ConditionMemoryPressure", "ConditionCPUPressure", "ConditionIOPressure", "ConditionKernelModuleLoaded"]),
    group("Unit", Refused, "an assertion cannot be asked: it would start where it should fail", &["AssertPathExists", "AssertArchitecture", "AssertVirtualization", "AssertHost", "AssertKernelCommandLine", "AssertKernelVersion", "AssertCapability", "AssertFirstBoot", "AssertPathExistsGlob", "AssertPathIsDirectory", "AssertPathIsSymbolicLink", "AssertPathIsMountPoint", "AssertPathIsReadWrite", "AssertDirectoryNotEmpty", "AssertFileNotEmpty", "AssertFileIsExecutable", "AssertUser", "AssertGroup", "AssertSecurity", "AssertNeedsUpdate"]),
    group("Unit", Refused, "no namespace is shared", &["JoinsNamespaceOf"]),

    group("Service", Supported, "`simple` and `exec`: up when its program runs; `idle`, `dbus`: the same, and listed; `oneshot`; `notify`; `notify-reload`; `forking` refuses the unit", &["Type"]),
    group("Service", Supported, "one command; prefix `-` and `@` are listed, `+` and `!` refuse a unit with a user or less privileges. Variables of an `EnvironmentFile=` are those that it has when the unit is read", &["ExecStart"]),
    group("Service", Supported, "`kill -SIGNAL $MAINPID`, or one command, which finds `MAINPID` in its environment", &["ExecReload"]),
    group("Service", Supported, "`kill -SIGNAL $MAINPID` as the signal that asks it to stop; others are listed, and it is stopped by `KillSignal=`", &["ExecStop"]),
    group("Service", Supported, "that a one-shot is done is kept anyway; for others `yes` is listed", &["RemainAfterExit"]),
    group("Service", Supported, "`no`, `always`, `on-failure` (which here restarts after SIGHUP, SIGINT, SIGTERM and SIGPIPE, too); `on-abnormal` and `on-abort` are taken as `on-failure`, `on-success` and `on-watchdog` as `no`, and listed", &["Restart"]),
    group("Service", Supported, "a pause from an end to the next start; 100 ms without it", &["RestartSec"]),
    group("Service", Supported, "as in `[Unit]`, where they stand today", &["StartLimitBurst", "StartLimitInterval"]),
    group("Service", Supported, "of `notify`: until it is ready, 90 s without it; of `oneshot`: until it is done", &["TimeoutStartSec"]),
    group("Service", Supported, "until `SIGKILL`, 90 s without it", &["TimeoutStopSec"]),
    group("Service", Supported, "both", &["TimeoutSec"]),
    group("Service", Supported, "`control-group`; `process`; `mixed` is taken as `control-group` and `none` as `process`, and listed. The first signal goes to the process group", &["KillMode"]),
    group("Service", Supported, "as it says", &["KillSignal", "ReloadSignal"]),
    group("Service", Supported, "by number or by the machine's own files; `USER` and `LOGNAME` are set, `HOME` and `SHELL` are not", &["User"]),
    group("Service", Supported, "by number or by the machine's own files", &["Group"]),
    group("Service", Supported, "beside a user whose own groups are not read then", &["SupplementaryGroups"]),
    group("Service", Supported, "as it says. Nothing is inherited from the supervisor; `PATH` is systemd's", &["Environment", "UnsetEnvironment"]),
    group("Service", Supported, "read at each start: `NAME=value` lines, values in quotes of one kind; a line that is none refuses the start, and what `Environment=` sets counts for more (which is listed where both are there)", &["EnvironmentFile"]),
    group("Service", Supported, "an absolute path; `/` without it", &["WorkingDirectory"]),
    group("Service", Supported, "as it says; `SOFT:HARD`, `infinity` and units too", &["LimitAS", "LimitCORE", "LimitCPU", "LimitDATA", "LimitFSIZE", "LimitMEMLOCK", "LimitMSGQUEUE", "LimitNICE", "LimitNOFILE", "LimitNPROC", "LimitRTPRIO", "LimitRTTIME", "LimitSIGPENDING", "LimitSTACK"]),
    group("Service", Supported, "as it says", &["Nice", "OOMScoreAdjust", "UMask", "FileDescriptorStoreMax"]),
    group("Service", Supported, "capabilities that it can get are those that it has: with a user they must be the same in both keys, or there is `NoNewPrivileges=yes`", &["CapabilityBoundingSet", "AmbientCapabilities"]),
    group("Service", Supported, "as it says", &["NoNewPrivileges", "PrivateMounts"]),
    group("Service", Supported, "empty at each start", &["PrivateTmp"]),
    group("Service", Supported, "its loopback interface is down, which is listed", &["PrivateNetwork"]),
    group("Service", Supported, "a namespace of its own", &["PrivateIPC", "ProtectHostname"]),
    group("Service", Supported, "with all that is mounted below when the service starts; what is mounted later comes in as it is", &["ReadOnlyPaths", "ReadOnlyDirectories"]),
    group("Service", Supported, "`yes`, `full`, `strict`: with all that is mounted below; what can be written is `ReadWritePaths=`, and the directories of `StateDirectory=` and its like, if they are there", &["ProtectSystem"]),
    group("Service", Supported, "exceptions from those that are read-only: what can be written there otherwise can be written", &["ReadWritePaths", "ReadWriteDirectories"]),
    group("Service", Supported, "as it says", &["InaccessiblePaths", "InaccessibleDirectories"]),
    group("Service", Supported, "names of system calls; with `~` all but these. Groups (`@`) and errors of single calls refuse the unit. No new privileges come with it, and those implied by the manual are allowed", &["SystemCallFilter"]),
    group("Service", Supported, "of `SystemCallFilter=`; without it the process is killed", &["SystemCallErrorNumber"]),
    group("Service", Supported, "`native`: calls of others kill. No new privileges come with it", &["SystemCallArchitectures"]),
    group("Service", Supported, "`ID:/PATH`, a file; without a path it is listed", &["LoadCredential"]),
    group("Service", Supported, "bytes; shares of the machine's memory are listed", &["MemoryMin", "MemoryHigh", "MemoryMax", "MemorySwapMax"]),
    group("Service", Supported, "as it says; it needs the supervisor to have control groups", &["CPUQuota", "CPUWeight", "IOWeight", "TasksMax", "Delegate"]),
    group("Service", Supported, "`kill`, `continue`; `stop` is listed", &["OOMPolicy"]),
    group("Service", Supported, "those, beside `NAME.socket`", &["Sockets"]),
    group("Service", Supported, "`null`; `inherit` (of standard input: nowhere, or the terminal); its own log for `journal`, `syslog` and `kmsg`; `append:PATH`; others are listed. There is one log: an error output that goes elsewhere is listed", &["StandardOutput", "StandardError"]),
    group("Service", Supported, "`null`; `tty` is the terminal for everything; others refuse the unit", &["StandardInput"]),
    group("Service", Supported, "with `StandardInput=tty`", &["TTYPath"]),
    group("Service", Supported, "`main`; others are listed: its main process alone is believed", &["NotifyAccess"]),
    group("Service", Accepted, "nothing is lost", &["GuessMainPID", "PIDFile", "BusName", "CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting", "IPAccounting", "BlockIOAccounting", "SyslogIdentifier", "SyslogFacility", "SyslogLevel", "SyslogLevelPrefix", "LogRateLimitIntervalSec", "LogRateLimitBurst", "LogExtraFields", "UtmpIdentifier", "UtmpMode", "TTYReset", "TTYVHangup", "TTYVTDisallocate", "TTYRows", "TTYColumns", "RuntimeDirectoryPreserve", "RuntimeDirectoryMode", "StateDirectoryMode", "CacheDirectoryMode", "LogsDirectoryMode", "ConfigurationDirectoryMode", "FileDescriptorStorePreserve", "ManagedOOMPreference", "MemoryPressureWatch", "MemoryPressureThresholdSec", "IgnoreSIGPIPE", "TimeoutCleanSec", "TimeoutStopFailureMode", "TimeoutStartFailureMode", "TimeoutAbortSec"]),
    group("Service", Listed, "nothing runs after its end", &["ExecStopPost"]),
    group("Service", Listed, "the machine goes on", &["FailureAction", "StartLimitAction", "RebootArgument"]),
    group("Service", Listed, "only one-shots have a bound on how long they run", &["RuntimeMaxSec", "RuntimeRandomizedExtraSec"]),
    group("Service", Listed, "the pause between restarts stays the same", &["RestartSteps", "RestartMaxDelaySec", "RestartMode"]),
    group("Service", Listed, "0 is success, and everything else a failure", &["SuccessExitStatus", "RestartPreventExitStatus", "RestartForceExitStatus", "ExitType"]),
    group("Service", Listed, "the supervisor sends one signal, then SIGKILL", &["SendSIGKILL", "SendSIGHUP", "FinalKillSignal", "RestartKillSignal", "WatchdogSignal"]),
    group("Service", Listed, "it is not noticed when it hangs", &["WatchdogSec"]),
    group("Service", Listed, "the directory is not made, and its variable is not set", &["RuntimeDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory", "ConfigurationDirectory"]),
    group("Service", Listed, "it is not passed on; say it in Environment=", &["PassEnvironment"]),
    group("Service", Listed, "this limit does nothing in Linux", &["LimitLOCKS", "LimitRSS"]),
    group("Service", Listed, "it is scheduled as the supervisor is", &["CPUSchedulingPolicy", "CPUSchedulingPriority", "CPUSchedulingResetOnFork", "IOSchedulingClass", "IOSchedulingPriority", "CPUAffinity", "NUMAPolicy", "NUMAMask", "TimerSlackNSec", "Personality"]),
    group("Service", Listed, "its control group has no such bound", &["CPUShares", "StartupCPUWeight", "StartupCPUShares", "CPUQuotaPeriodSec", "AllowedCPUs", "AllowedMemoryNodes", "StartupAllowedCPUs", "MemoryLow", "DefaultMemoryLow", "DefaultMemoryMin", "MemoryLimit", "MemoryZSwapMax", "StartupIOWeight", "IODeviceWeight", "IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax", "IODeviceLatencyTargetSec", "BlockIOWeight", "ManagedOOMSwap", "ManagedOOMMemoryPressure", "ManagedOOMMemoryPressureLimit", "DisableControllers", "DelegateSubgroup", "Slice"]),
    group("Service", Listed, "what the service says is kept as it is", &["LogLevelMax", "LogNamespace", "LogFilterPatterns"]),
    group("Service", Listed, "it gets no such credential", &["LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted", "ImportCredential"]),
    group("Service", Listed, "what it leaves stays", &["RemoveIPC"]),
    group("Service", Listed, "it is not there", &["NonBlocking", "CoredumpFilter", "PAMName", "USBFunctionDescriptors", "USBFunctionStrings", "OpenFile", "StandardInputText", "StandardInputData", "MountFlags", "MountAPIVFS", "SetLoginEnvironment", "RootDirectoryStartOnly"]),
    group("Service", Confines, "which cannot be given", &["ProtectHome", "PrivateDevices", "PrivateUsers", "PrivatePIDs", "PrivateBPF", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectProc", "ProcSubset", "RestrictAddressFamilies", "RestrictFileSystems", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "RestrictNetworkInterfaces", "MemoryDenyWriteExecute", "LockPersonality", "SecureBits", "DynamicUser", "KeyringMode", "IPAddressAllow", "IPAddressDeny", "SocketBindAllow", "SocketBindDeny", "DeviceAllow", "DevicePolicy", "TemporaryFileSystem", "ExecPaths", "NoExecPaths", "SELinuxContext", "AppArmorProfile", "SmackProcessLabel", "SystemCallLog", "IPIngressFilterPath", "IPEgressFilterPath", "BPFProgram", "NFTSet"]),
    group("Service", Refused, "the supervisor runs one command for a service: what belongs before or after it is not done", &["ExecStartPre", "ExecStartPost", "ExecCondition"]),
    group("Service", Refused, "it would see other files", &["RootDirectory", "RootImage", "RootImageOptions", "RootEphemeral", "RootHash", "RootHashSignature", "RootVerity", "MountImages", "ExtensionImages", "ExtensionDirectories", "BindPaths", "BindReadOnlyPaths"]),
    group("Service", Refused, "it would be in another namespace", &["NetworkNamespacePath", "IPCNamespacePath"]),

    group("Socket", Supported, "`/PATH`, `@NAME`, `PORT`, `IP:PORT`", &["ListenStream"]),
    group("Socket", Supported, "`PORT`, `IP:PORT`; a Unix socket refuses the unit", &["ListenDatagram"]),
    group("Socket", Supported, "as it says; 0666 and the unit's name without it", &["SocketMode", "FileDescriptorName"]),
    group("Socket", Supported, "`NAME.service` without it", &["Service"]),
    group("Socket", Supported, "`no`: the service gets the socket itself; `yes` refuses the unit", &["Accept"]),
    group("Socket", Accepted, "nothing is lost", &["RemoveOnStop", "MaxConnections", "MaxConnectionsPerSource", "Backlog", "Timestamping", "FlushPending", "Writable", "TimeoutSec", "PassFileDescriptorsToExec", "DirectoryMode", "TriggerLimitIntervalSec", "TriggerLimitBurst", "PollLimitIntervalSec", "PollLimitBurst", "KillMode", "KillSignal"]),
    group("Socket", Listed, "the socket's file belongs to the supervisor's user", &["SocketUser", "SocketGroup"]),
    group("Socket", Listed, "the socket has no such option", &["BindIPv6Only", "BindToDevice", "KeepAlive", "KeepAliveTimeSec", "KeepAliveIntervalSec", "KeepAliveProbes", "NoDelay", "Priority", "DeferAcceptSec", "ReceiveBuffer", "SendBuffer", "IPTOS", "IPTTL", "Mark", "ReusePort", "PipeSize", "FreeBind", "Transparent", "Broadcast", "PassCredentials", "PassPIDFD", "PassSecurity", "PassPacketInfo", "TCPCongestion", "Symlinks", "SocketProtocol", "ExecStopPre", "ExecStopPost", "AcceptFileDescriptors"]),
    group("Socket", Confines, "which cannot be given", &["SmackLabel", "SmackLabelIPIn", "SmackLabelIPOut", "SELinuxContextFromNet"]),
    group("Socket", Refused, "there are sockets of TCP, of UDP, and streams of Unix", &["ListenSequentialPacket", "ListenFIFO", "ListenSpecial", "ListenNetlink", "ListenMessageQueue", "ListenUSBFunction"]),
    group("Socket", Refused, "nothing runs for a socket", &["ExecStartPre", "ExecStartPost"]),

    group("Timer", Supported, "the first run, counted from the supervisor's start or when it is wanted", &["OnActiveSec", "OnBootSec", "OnStartupSec"]),
    group("Timer", Supported, "from a start to the next one", &["OnUnitActiveSec"]),
    group("Timer", Supported, "`NAME.service` without it", &["Unit"]),
    group("Timer", Accepted, "nothing is lost: it is due when it is due", &["AccuracySec", "RemainAfterElapse", "DeferReactivation"]),
    group("Timer", Listed, "no delay by chance is added", &["RandomizedDelaySec", "FixedRandomDelay", "RandomizedOffsetSec"]),
    group("Timer", Listed, "there are no times of the day, and no runs that are made up for", &["OnCalendar", "Persistent", "OnClockChange", "OnTimezoneChange", "WakeSystem"]),
    group("Timer", Listed, "times count from starts", &["OnUnitInactiveSec"]),

    group("Install", Supported, "what is pulled in by one of the targets is started; what another unit pulls in, with that", &["WantedBy", "RequiredBy"]),
    group("Install", Supported, "another name of it", &["Alias"]),
    group("Install", Supported, "which instance a template without one has", &["DefaultInstance"]),
    group("Install", Listed, "taken as WantedBy=", &["UpheldBy"]),
    group("Install", Accepted, "nothing is installed", &["Also"]),
];

/// What is known of a key.
pub(super) fn find(section: &str, key: &str) -> Option<&'static Group> {
    KEYS.iter().find(|group| group.section == section && group.keys.contains(&key))
}

/// All keys of a section.
pub(super) fn of(section: &str) -> impl Iterator<Item = &'static str> + Clone {
    let section = section.to_owned();
    KEYS.iter().filter(move |group| group.section == section).flat_map(|group| group.keys).copied()
}

/// What becomes of a key of a section; `None` for one that is not known.
#[must_use]
pub fn class(section: &str, key: &str) -> Option<Class> {
    find(section, key).map(|group| group.class)
}

/// All keys with what becomes of them, as tables in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for section in ["Unit", "Service", "Socket", "Timer", "Install"] {
        let _ = write!(text, "\n## `[{section}]`\n");
        for (class, title) in [
            (Supported, "Supported"),
            (Listed, "Listed: it is lost, and told"),
            (Confines, "Confines: refused, unless less confinement is allowed"),
            (Refused, "Refused"),
            (Accepted, "Accepted"),
        ] {
            let groups = KEYS.iter().filter(|it| it.section == section && it.class == class);
            let mut groups = groups.peekable();
            if groups.peek().is_none() {
                continue;
            }
            let _ = write!(text, "\n### {title}\n\n| keys | what becomes of them |\n|---|---|\n");
            for group in groups {
                let keys: Vec<String> = group.keys.iter().map(|key| format!("`{key}`")).collect();
                let note = group.note.replace('|', "\\|");
                let _ = writeln!(text, "| {} | {note} |", keys.join(", "));
            }
        }
    }
    text
}
