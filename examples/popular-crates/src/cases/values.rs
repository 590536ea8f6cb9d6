//! Values: read, checked, written.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::case::{Answer, MadeRouter, handler};

#[derive(Serialize, Deserialize, Validate)]
struct Visitor {
    #[validate(length(min = 1))]
    name: String,
    #[validate(email)]
    mail: String,
}

const VISITOR: &str = r#"{"name":"Ann","mail":"ann@example.org"}"#;

pub(crate) fn serde_json() -> MadeRouter {
    handler(async || -> Answer {
        Ok(serde_json::to_string(&serde_json::from_str::<Visitor>(VISITOR)?)?)
    })
}

pub(crate) fn csv() -> MadeRouter {
    handler(async || -> Answer {
        let mut reader = csv::Reader::from_reader("name,mail\nAnn,ann@example.org\n".as_bytes());
        let visitor: Visitor = reader.deserialize().next().ok_or("there is no row")??;
        Ok(format!("{} {}", visitor.name, visitor.mail))
    })
}

pub(crate) fn validator() -> MadeRouter {
    handler(async || -> Answer {
        let mut visitor: Visitor = serde_json::from_str(VISITOR)?;
        visitor.validate()?;
        visitor.mail = "nobody".to_owned();
        let refused = visitor.validate().err().ok_or("it takes everything")?;
        Ok(format!("refused {:?}", refused.field_errors().keys().collect::<Vec<_>>()))
    })
}

pub(crate) fn regex() -> MadeRouter {
    handler(async || -> Answer {
        let words = regex::Regex::new(r"\b(\w+)@(\w+)\.org\b")?;
        Ok(words.replace(VISITOR, "$1 at $2").into_owned())
    })
}

pub(crate) fn uuid() -> MadeRouter {
    handler(async || -> Answer {
        let (random, by_time) = (uuid::Uuid::new_v4(), uuid::Uuid::now_v7());
        Ok(format!("versions {} {}", random.get_version_num(), by_time.get_version_num()))
    })
}

pub(crate) fn rand() -> MadeRouter {
    handler(async || -> Answer { Ok(format!("a die: {}", rand::rng().random_range(1..=6))) })
}

pub(crate) fn chrono() -> MadeRouter {
    handler(async || -> Answer { Ok(chrono::Local::now().format("in %Y here").to_string()) })
}

pub(crate) fn time() -> MadeRouter {
    handler(async || -> Answer {
        Ok(format!("in {} here", time::OffsetDateTime::now_local()?.year()))
    })
}

pub(crate) fn jiff() -> MadeRouter {
    handler(async || -> Answer {
        let day = jiff::SignedDuration::try_from(Duration::from_secs(86_400))?;
        Ok((jiff::ZonedDateTime::now() + day).strftime("in %Y here").to_string())
    })
}
