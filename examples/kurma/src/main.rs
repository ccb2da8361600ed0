//! `kurma`: pods and images of a machine that runs kurma-server.

mod access;
mod arguments;
mod create;
mod enter;
mod images;
mod problem;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use kurma_client::Client;

use arguments::{Arguments, Command, Image};
use problem::Problem;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "build")]
    if let Command::Build(build) = &arguments.command {
        return match build.run(arguments.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("kurma: {problem}");
                ExitCode::FAILURE
            }
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(&arguments));
            // what waits for a key that nobody presses waits no longer
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("kurma: {problem}");
            let host = match &arguments.command {
                Command::Enroll(enroll) => &enroll.host,
                _ => &arguments.host,
            };
            if let Some(hint) = problem.hint(host) {
                eprintln!("{hint}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let json = arguments.json;
    // what asks no server, or one that does not know this program yet
    match &arguments.command {
        Command::Enroll(enroll) => {
            access::enroll(enroll, json).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Completion { shell } => {
            let (name, mut command) = (env!("CARGO_PKG_NAME"), Arguments::command());
            clap_complete::generate(*shell, &mut command, name, &mut std::io::stdout());
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let client = Client::new(arguments.endpoint()?);
    match &arguments.command {
        // it asks no server
        #[cfg(feature = "build")]
        Command::Build(_) => {}
        Command::Create(create) => create::run(&client, create, json).await?,
        Command::Enter(enter) => return enter::run(&client, enter).await,
        Command::List => show::pods(&client.pods().await?, json)?,
        Command::Show { pod } => show::pod(&client.pod(pod).await?, json)?,
        Command::Stop { pods } => {
            for pod in pods {
                let stopped = client.stop(pod).await?;
                show::state(&stopped, json)?;
            }
        }
        Command::Destroy { pods } => {
            for pod in pods {
                client.destroy(pod).await?;
            }
        }
        Command::Logs { pod, app, lines, follow } => {
            let mut logs = client.logs(pod, app.as_deref(), *lines, *follow).await?;
            while let Some(piece) = logs.next().await? {
                let mut out = std::io::stdout().lock();
                out.write_all(&piece)?;
                out.flush()?;
            }
        }
        Command::Image { image } => match image {
            Image::List => show::images(&client.images().await?, json)?,
            Image::Show { image } => show::image(&client.image(image).await?, json)?,
            Image::Upload { file } => {
                let image = images::upload(&client, file).await?;
                show::uploaded(&image, json)?;
            }
            Image::Delete { images } => {
                for image in images {
                    client.delete_image(image).await?;
                }
            }
        },
        Command::Upgrade(asked) => {
            let done = images::upgrade(&client, asked).await?;
            show::upgraded(&done, json)?;
        }
        Command::Info => show::info(&client.info().await?, json)?,
        Command::Version => show::version(&client, json).await?,
        Command::Access { access } => access::run(&client, access, &arguments.host, json).await?,
        Command::Enroll(_) | Command::Completion { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}
