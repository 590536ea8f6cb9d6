//! Text for visitors.

use askama::Template;
use serde::Serialize;

use crate::case::{Answer, MadeRouter, handler};

/// What all templates are given: it shows whether they escape.
#[derive(Serialize, Template)]
#[template(source = "Hello, {{ name }}", ext = "html")]
struct Greeting {
    name: &'static str,
}

const GREETING: Greeting = Greeting { name: "<Ann>" };

pub(crate) fn askama() -> MadeRouter {
    handler(async || -> Answer { Ok(GREETING.render()?) })
}

pub(crate) fn minijinja() -> MadeRouter {
    handler(async || -> Answer {
        let mut environment = minijinja::Environment::new();
        environment.add_template("hello.html", "Hello, {{ name }}")?;
        Ok(environment.get_template("hello.html")?.render(minijinja::context! { name => GREETING.name })?)
    })
}

pub(crate) fn tera() -> MadeRouter {
    handler(async || -> Answer {
        let mut tera = tera::Tera::default();
        tera.add_raw_template("hello.html", "Hello, {{ name }}")?;
        Ok(tera.render("hello.html", &tera::Context::from_serialize(&GREETING)?)?)
    })
}

pub(crate) fn handlebars() -> MadeRouter {
    handler(async || -> Answer {
        Ok(handlebars::Handlebars::new().render_template("Hello, {{name}}", &GREETING)?)
    })
}

pub(crate) fn maud() -> MadeRouter {
    handler(async || maud::html! { "Hello, " (GREETING.name) })
}

pub(crate) fn pulldown_cmark() -> MadeRouter {
    handler(async || -> Answer {
        let mut page = String::new();
        pulldown_cmark::html::push_html(&mut page, pulldown_cmark::Parser::new("# Hello, *Ann*"));
        Ok(page)
    })
}
