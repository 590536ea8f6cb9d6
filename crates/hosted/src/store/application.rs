//! An application that keeps rows in the tables of one schema.

use storage::{Schema, Store, Trust};

use super::{Command, Keeps, SETTING, at, look, name_machine, run, setting};
use crate::app::Start;
use crate::application::{Application, Build, Built, Sealed, WhatIsKept};
use crate::config::{CommandLine, Configuration, Keys, Settings};
use crate::findings::Findings;
use crate::program::Program;
use crate::report::Failure;

/// What an [`Application`] keeps that has a store: rows in the tables of one schema.
#[derive(Clone, Copy, Debug)]
pub struct KeepsRows(pub(crate) Schema);

/// A function that makes a service of the store with these tables.
pub struct WithStore<F> {
    pub(crate) schema: Schema,
    pub(crate) build: F,
}

impl<F, M> Application<WithStore<F>, M, KeepsRows>
where
    M: 'static,
    WithStore<F>: Build<M>,
{
    /// An application that keeps rows, in tables of this schema. Its service is made by a function of the store: plain or
    /// async, also with a `Result`, as for [`main`](fn@crate::main).
    ///
    /// The store is the file `data/NAME.db` beside the program, or a database of PostgreSQL's (setting `database`). With it come
    /// the commands `backup`, `restore` and `store`, and `check` looks at it. Nothing is opened before it is first used.
    /// With rows of more than one schema, implement [`App`](crate::App) and [`Keeps`].
    pub fn with_store(schema: Schema, build: F) -> Self {
        Application::of(WithStore { schema, build }, KeepsRows(schema))
    }
}

impl<F, R, M> Build<M> for WithStore<F>
where
    F: Fn(Store) -> R + 'static,
    R: Built<M>,
{
    type Service = R::Service;

    async fn build(&self, start: Start) -> Result<R::Service, Failure> {
        let configuration = &start.configuration;
        let settings = &configuration.settings;
        let store = at(configuration.program, settings, start.trust(), self.schema);
        (self.build)(store).built().await
    }
}

impl Sealed for KeepsRows {}

impl WhatIsKept for KeepsRows {
    type Commands = Command;

    fn keys(program: Program) -> Keys<()> {
        Keys::new(program, vec![setting()])
            .secret(&[SETTING])
            .check(|configuration| name_machine(&mut configuration.settings))
    }

    fn check<M: 'static, B: Build<M>>(
        app: &Application<B, M, Self>,
        findings: &mut Findings,
        configuration: &Configuration<()>,
    ) {
        look(app, findings, configuration, "Until then what needs it fails.");
    }

    fn run<M: 'static, B: Build<M>>(
        app: &Application<B, M, Self>,
        command: Command,
        command_line: &CommandLine,
    ) -> Result<(), Failure> {
        run(app, &command, command_line)
    }
}

impl<M: 'static, B: Build<M>> Keeps for Application<B, M, KeepsRows> {
    fn store(&self, settings: &Settings<()>, trust: Trust) -> Store {
        at(self.program(), settings, trust, self.keeps().0)
    }

    fn schemas(&self, store: &Store) -> Vec<Schema> {
        vec![store.schema()]
    }
}
