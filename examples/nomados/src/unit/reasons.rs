//! Why a directive is not carried over, and what does its work in Nomad, if anything.

/// A sentence about a directive that has no counterpart. Every key gets one.
pub(super) fn reason(section: &str, key: &str) -> &'static str {
    match section {
        "Unit" => return unit(key),
        "Install" => {
            return match key {
                "WantedBy" | "RequiredBy" => "units that start others do not exist",
                _ => "a job has one name and is registered by whoever runs it",
            };
        }
        "Service" => {}
        _ => return "Nomad reads no such section",
    }
    match key {
        "ProtectSystem"
        | "ProtectHome"
        | "ReadWritePaths"
        | "ReadOnlyPaths"
        | "InaccessiblePaths"
        | "ExecPaths"
        | "NoExecPaths"
        | "TemporaryFileSystem"
        | "BindPaths"
        | "BindReadOnlyPaths"
        | "RootDirectory"
        | "RootImage"
        | "MountFlags"
        | "MountAPIVFS"
        | "ReadWriteDirectories"
        | "ReadOnlyDirectories"
        | "InaccessibleDirectories"
        | "PrivateMounts" => {
            "exec's own isolation is a chroot made of the client's chroot_env; raw_exec has none"
        }
        "PrivateTmp" => "exec has a /tmp of its own in its chroot; raw_exec shares the node's",
        "PrivateDevices" | "DeviceAllow" | "DevicePolicy" => {
            "exec's containers have a small /dev of their own; raw_exec has the node's"
        }
        "ProtectProc" | "ProcSubset" | "PrivateIPC" | "PrivateUsers" => {
            "exec has PID and IPC namespaces of its own and no user namespace; raw_exec has none"
        }
        "PrivateNetwork"
        | "NetworkNamespacePath"
        | "IPAddressAllow"
        | "IPAddressDeny"
        | "RestrictNetworkInterfaces" => {
            "a network block with mode = \"bridge\" or \"none\" isolates a group's network"
        }
        "CapabilityBoundingSet" | "AmbientCapabilities" | "NoNewPrivileges" | "SecureBits" => {
            "exec's config has cap_add and cap_drop, within what the client's allow_caps permits"
        }
        "SystemCallFilter"
        | "SystemCallArchitectures"
        | "SystemCallErrorNumber"
        | "SystemCallLog"
        | "MemoryDenyWriteExecute"
        | "LockPersonality"
        | "RestrictRealtime"
        | "RestrictSUIDSGID"
        | "RestrictNamespaces"
        | "RestrictAddressFamilies"
        | "RestrictFileSystems"
        | "ProtectKernelTunables"
        | "ProtectKernelModules"
        | "ProtectKernelLogs"
        | "ProtectControlGroups"
        | "ProtectClock"
        | "ProtectHostname"
        | "KeyringMode"
        | "RemoveIPC"
        | "Personality" => {
            "neither exec nor raw_exec filters system calls; a container driver does"
        }
        "AppArmorProfile" | "SELinuxContext" | "SmackProcessLabel" => {
            "Nomad sets no security labels"
        }
        "Group" | "SupplementaryGroups" => "a task has a user and that user's groups",
        "DynamicUser" => "without User=, exec runs as nobody",
        "PAMName" | "TTYPath" | "TTYReset" | "TTYVHangup" | "TTYVTDisallocate"
        | "UtmpIdentifier" | "UtmpMode" | "StandardInputText" | "StandardInputData" => {
            "tasks have neither terminals nor logins"
        }
        "BusName"
        | "NotifyAccess"
        | "WatchdogSec"
        | "WatchdogSignal"
        | "FileDescriptorStoreMax"
        | "USBFunctionDescriptors"
        | "USBFunctionStrings"
        | "NonBlocking"
        | "Sockets" => "Nomad has no readiness or descriptor protocol; a service block has checks",
        "TimeoutStartSec"
        | "TimeoutStartFailureMode"
        | "RuntimeMaxSec"
        | "TimeoutAbortSec"
        | "TimeoutStopFailureMode"
        | "RuntimeRandomizedExtraSec" => "tasks have no limit on how long they may start or run",
        "ExecReload" => {
            "send the signal with `nomad alloc signal`, or from a template's change_signal"
        }
        "ExecStop" => {
            "Nomad ends a task by kill_signal, after kill_timeout by SIGKILL, and runs nothing first"
        }
        "ExecCondition" => "a prestart task that fails makes the allocation fail, not be skipped",
        "PIDFile" | "GuessMainPID" => "Nomad's task is the process that it started",
        "KillMode" => "Nomad signals the task's process and ends all of its cgroup afterwards",
        "SendSIGKILL" | "SendSIGHUP" | "FinalKillSignal" | "RestartKillSignal" => {
            "Nomad has one kill_signal, then SIGKILL"
        }
        "SuccessExitStatus"
        | "RestartPreventExitStatus"
        | "RestartForceExitStatus"
        | "RemainAfterExit"
        | "ExitType"
        | "RestartSteps"
        | "RestartMaxDelaySec" => "to Nomad 0 is success and everything else a failure",
        "OOMPolicy"
        | "OOMScoreAdjust"
        | "Nice"
        | "CPUSchedulingPolicy"
        | "CPUSchedulingPriority"
        | "CPUSchedulingResetOnFork"
        | "IOSchedulingClass"
        | "IOSchedulingPriority"
        | "CPUAffinity"
        | "NUMAPolicy"
        | "NUMAMask"
        | "TimerSlackNSec"
        | "CoredumpFilter"
        | "IgnoreSIGPIPE" => "tasks have no such property; the program's caller could set it",
        "Slice" | "Delegate" | "DisableControllers" | "CPUAccounting" | "MemoryAccounting"
        | "IOAccounting" | "TasksAccounting" | "BlockIOAccounting" | "IPAccounting" => {
            "Nomad makes and accounts the cgroups of its tasks itself"
        }
        "TasksMax"
        | "CPUWeight"
        | "StartupCPUWeight"
        | "CPUShares"
        | "AllowedCPUs"
        | "IOWeight"
        | "IOReadBandwidthMax"
        | "IOWriteBandwidthMax"
        | "MemoryHigh"
        | "MemoryLow"
        | "MemoryMin"
        | "MemorySwapMax"
        | "ManagedOOMSwap"
        | "ManagedOOMMemoryPressure" => "resources has cpu, cores, memory and memory_max only",
        "RuntimeDirectory"
        | "StateDirectory"
        | "CacheDirectory"
        | "LogsDirectory"
        | "ConfigurationDirectory" => {
            "a task has directories of its own (NOMAD_ALLOC_DIR, NOMAD_TASK_DIR); only raw_exec as root makes others"
        }
        "RuntimeDirectoryPreserve"
        | "RuntimeDirectoryMode"
        | "StateDirectoryMode"
        | "CacheDirectoryMode"
        | "LogsDirectoryMode"
        | "ConfigurationDirectoryMode" => "it belongs to a directory that is not made",
        "StandardInput"
        | "StandardOutput"
        | "StandardError"
        | "SyslogIdentifier"
        | "SyslogFacility"
        | "SyslogLevel"
        | "SyslogLevelPrefix"
        | "LogLevelMax"
        | "LogExtraFields"
        | "LogRateLimitIntervalSec"
        | "LogRateLimitBurst"
        | "LogNamespace" => "what a task writes goes to Nomad's logs (`nomad alloc logs`)",
        "LoadCredential"
        | "LoadCredentialEncrypted"
        | "SetCredential"
        | "SetCredentialEncrypted"
        | "ImportCredential" => "secrets come from Nomad variables or Vault, by a template",
        "PassEnvironment" | "UnsetEnvironment" => "a task's environment is what its job says",
        "LimitNPROC" | "LimitRSS" | "LimitMSGQUEUE" | "LimitNICE" | "LimitRTPRIO"
        | "LimitRTTIME" | "LimitSIGPENDING" | "LimitLOCKS" | "LimitCORE" | "LimitFSIZE" => {
            "a POSIX shell's ulimit does not set it alike everywhere"
        }
        key if key.starts_with("X-") => "it is not systemd's",
        _ => "there is nothing like it in Nomad",
    }
}

fn unit(key: &str) -> &'static str {
    match key {
        "After" | "Before" => {
            "jobs are not ordered; NomadOS starts Nomad after network and data, and a prestart task can wait"
        }
        "Wants"
        | "Requires"
        | "Requisite"
        | "BindsTo"
        | "PartOf"
        | "Upholds"
        | "Conflicts"
        | "PropagatesReloadTo"
        | "ReloadPropagatedFrom"
        | "JoinsNamespaceOf"
        | "StopPropagatedFrom"
        | "PropagatesStopTo"
        | "RequiresMountsFor" => {
            "jobs do not depend on each other; tasks that belong together go into one group"
        }
        "OnFailure" | "OnSuccess" | "OnFailureJobMode" | "FailureAction" | "SuccessAction"
        | "StartLimitAction" | "JobTimeoutSec" | "JobTimeoutAction" | "RebootArgument" => {
            "Nomad restarts and reschedules; what else is to happen is for who watches its events"
        }
        "DefaultDependencies"
        | "IgnoreOnIsolate"
        | "RefuseManualStart"
        | "RefuseManualStop"
        | "AllowIsolate"
        | "StopWhenUnneeded"
        | "CollectMode"
        | "SurviveFinalKillSignal" => "there are no targets and no transactions",
        "ConditionArchitecture"
        | "ConditionVirtualization"
        | "ConditionKernelVersion"
        | "ConditionHost"
        | "AssertArchitecture" => {
            "a constraint block on the node's attributes chooses where a job runs"
        }
        key if key.starts_with("Condition") || key.starts_with("Assert") => {
            "a constraint block knows the node's attributes; files are not among them"
        }
        key if key.starts_with("X-") => "it is not systemd's",
        _ => "there is nothing like it in Nomad",
    }
}
