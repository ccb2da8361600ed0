//! The shell around a download: asks a source, waits, and gives bytes that are verified to whoever reads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use crate::download::{Answer, Download, Event, Input, Output, Policy};
use crate::{ChunkList, Error, Result};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Where a file is asked for.
pub trait Source: fmt::Debug + Send {
    /// The file from that byte on, or as a whole.
    ///
    /// # Errors
    /// A sentence.
    fn ask(&mut self, from: u64) -> std::result::Result<(Answer, Box<dyn Read + Send>), String>;
}

impl Source for PathBuf {
    fn ask(&mut self, from: u64) -> std::result::Result<(Answer, Box<dyn Read + Send>), String> {
        let open = || -> io::Result<_> {
            let mut file = File::open(&*self)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(from))?;
            Ok((Answer::Part(from, Some(len)), Box::new(file) as Box<dyn Read + Send>))
        };
        open().map_err(|error| error.to_string())
    }
}

/// Whom events are told, with the bytes that are verified.
pub type Tell = Box<dyn FnMut(&Event) + Send>;

/// A file of which only verified bytes are read, in order. Reading waits as long as the policy allows.
pub struct Reader {
    source: Box<dyn Source>,
    download: Download,
    list: Arc<ChunkList>,
    tell: Tell,
    begun: Instant,
    body: Option<Box<dyn Read + Send>>,
    chunk: io::Cursor<Vec<u8>>,
    piece: Vec<u8>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reader").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Reader {
    /// Begins when it is read.
    #[must_use]
    pub fn new(source: Box<dyn Source>, list: Arc<ChunkList>, policy: Policy, tell: Tell) -> Self {
        let begun = Instant::now();
        let download = Download::new(Arc::clone(&list), policy, begun.elapsed());
        let (chunk, piece) = (io::Cursor::default(), vec![0; PIECE]);
        Self { source, download, list, tell, begun, body: None, chunk, piece }
    }

    /// The next chunk. None after the last one.
    ///
    /// # Errors
    /// [`Error::GaveUp`].
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.download.poll() {
                Output::Chunk(bytes) => return Ok(Some(bytes)),
                Output::Done => return Ok(None),
                Output::GaveUp(problem) => return Err(self.gave_up(problem)),
                Output::Event(event) => (self.tell)(&event),
                Output::Ask(from) => {
                    // the connection before is closed first
                    self.body = None;
                    match self.source.ask(from) {
                        Ok((answer, body)) => {
                            self.body = Some(body);
                            self.happened(Input::Answer(answer));
                        }
                        Err(problem) => self.happened(Input::Failed(problem)),
                    }
                }
                Output::Wait(Some(until)) => {
                    self.body = None;
                    std::thread::sleep(until.saturating_sub(self.begun.elapsed()));
                    self.happened(Input::Time);
                }
                Output::Wait(None) => self.read_on(),
            }
        }
    }

    fn read_on(&mut self) {
        let Some(body) = &mut self.body else {
            return self.happened(Input::Failed("nobody answers".into()));
        };
        let input = match body.read(&mut self.piece) {
            Ok(0) => Input::End,
            Ok(len) => Input::Bytes(self.piece.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Input::Time,
            Err(error) => Input::Failed(error.to_string()),
        };
        self.download.handle(input, self.begun.elapsed());
    }

    fn happened(&mut self, input: Input<'_>) {
        self.download.handle(input, self.begun.elapsed());
    }

    fn gave_up(&self, problem: String) -> Error {
        Error::GaveUp {
            file: self.list.file.clone(),
            problem,
            verified: self.download.verified(),
            size: self.list.size(),
        }
    }

    /// The same, read by a thread of its own that is up to so many chunks ahead of whoever reads.
    #[must_use]
    pub fn ahead(self, chunks: usize) -> Ahead {
        let (sender, receiver) = sync_channel(chunks);
        let thread = std::thread::Builder::new().name("download".into());
        let failed = sender.clone();
        if let Err(error) = thread.spawn(move || hand_on(self, &sender)) {
            let what = "start a thread".to_owned();
            let _ = failed.try_send(Err(Error::Io { what, source: error }));
        }
        Ahead { receiver: Some(receiver), chunk: io::Cursor::default(), error: None }
    }
}

fn hand_on(mut reader: Reader, sender: &SyncSender<Result<Vec<u8>>>) {
    while let Some(chunk) = reader.chunk().transpose() {
        let last = chunk.is_err();
        // whoever does not read any more needs no more
        if sender.send(chunk).is_err() || last {
            return;
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = self.chunk.read(buffer)?;
            if len > 0 || buffer.is_empty() {
                return Ok(len);
            }
            match self.chunk().map_err(io::Error::other)? {
                Some(chunk) => self.chunk = io::Cursor::new(chunk),
                None => return Ok(0),
            }
        }
    }
}

/// What [`Reader::ahead`] gives: verified bytes, while the next ones come.
#[derive(Debug)]
pub struct Ahead {
    receiver: Option<Receiver<Result<Vec<u8>>>>,
    chunk: io::Cursor<Vec<u8>>,
    error: Option<Error>,
}

impl Ahead {
    /// Why reading failed, where the download did.
    pub fn error(&mut self) -> Option<Error> {
        self.error.take()
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = self.chunk.read(buffer)?;
            if len > 0 || buffer.is_empty() {
                return Ok(len);
            }
            let Some(receiver) = &self.receiver else {
                return Err(io::Error::other("the download was given up"));
            };
            match receiver.recv() {
                Ok(Ok(chunk)) => self.chunk = io::Cursor::new(chunk),
                Ok(Err(error)) => {
                    let text = error.to_string();
                    self.error = Some(error);
                    self.receiver = None;
                    return Err(io::Error::other(text));
                }
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Reads a list: of the source that has it, verified before anything of it is believed. What fails is asked for
/// again, as the policy says.
///
/// # Errors
/// [`Error::NoList`]; those of [`ChunkList::read`], at the last try.
pub fn list(
    name: &str,
    source: &mut dyn Source,
    policy: &Policy,
    verify: &dyn Fn(&[u8], &[u8; 64]) -> bool,
    tell: &mut dyn FnMut(&str),
) -> Result<ChunkList> {
    let begun = Instant::now();
    let mut pause = policy.pause;
    loop {
        let problem = match fetched(source) {
            Ok(bytes) => match ChunkList::read(&bytes, verify) {
                Ok(list) => return Ok(list),
                // it may be that it was written just now
                Err(error) if begun.elapsed() + pause >= policy.patience => return Err(error),
                Err(error) => error.to_string(),
            },
            Err(problem) => problem,
        };
        if begun.elapsed() + pause >= policy.patience {
            let file = name.to_owned();
            return Err(Error::NoList { file, problem });
        }
        tell(&format!("{problem}; again in {:.1} s", pause.as_secs_f64()));
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(policy.longest_pause);
    }
}

fn fetched(source: &mut dyn Source) -> std::result::Result<Vec<u8>, String> {
    let (answer, body) = source.ask(0)?;
    let mut bytes = Vec::new();
    let limit = crate::list::LONGEST_LIST + 1;
    body.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let (Answer::Whole(total) | Answer::Part(_, total)) = answer;
    match total {
        Some(total) if total != bytes.len() as u64 && (bytes.len() as u64) < limit => {
            Err(format!("it ends after {} of {total} bytes", bytes.len()))
        }
        _ => Ok(bytes),
    }
}

/// Where the list of a file is: beside it, with `.chunks` behind its name.
#[must_use]
pub fn list_beside(file: &str) -> String {
    match file.split_once('?') {
        Some((path, query)) => format!("{path}.chunks?{query}"),
        None => format!("{file}.chunks"),
    }
}

/// The file of a path or of a `file:` URL. None for other URLs.
#[must_use]
pub fn local(text: &str) -> Option<&Path> {
    match text.split_once(':') {
        Some(("file", rest)) => {
            let rest = rest.strip_prefix("//localhost").or_else(|| rest.strip_prefix("//"));
            rest.or_else(|| text.strip_prefix("file:")).map(Path::new)
        }
        _ => text.starts_with('/').then(|| Path::new(text)),
    }
}
