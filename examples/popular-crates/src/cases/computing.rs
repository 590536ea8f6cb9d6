//! What takes the processor: in one thread, everybody else waits meanwhile.

use std::io::Cursor;

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::case::{Answer, MadeRouter, handler};

pub(crate) fn rayon() -> MadeRouter {
    handler(async || -> Answer {
        Ok(format!("sum {}", (1..=8_u32).into_par_iter().sum::<u32>() + 6))
    })
}

/// A picture is read, scaled and written.
pub(crate) fn image() -> MadeRouter {
    handler(async || -> Answer {
        let mut picture = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(640, 480).write_to(&mut picture, ImageFormat::Jpeg)?;
        let picture = image::load_from_memory(picture.get_ref())?;
        let small = picture.resize(64, 64, FilterType::Lanczos3);
        let mut written = Cursor::new(Vec::new());
        small.write_to(&mut written, ImageFormat::Png)?;
        let read = image::load_from_memory(written.get_ref())?;
        Ok(format!("{} x {}", read.width(), read.height()))
    })
}

pub(crate) fn argon2() -> MadeRouter {
    handler(async || -> Answer {
        let hash = Argon2::default().hash_password(b"secret")?.to_string();
        let hash = argon2::PasswordHash::new(&hash)?;
        Argon2::default().verify_password(b"secret", &hash)?;
        Ok("verified".to_owned())
    })
}

pub(crate) fn bcrypt() -> MadeRouter {
    handler(async || -> Answer {
        // The lowest cost: it is not its time that is tried.
        let hash = bcrypt::hash("secret", 4)?;
        Ok(format!("verified {}", bcrypt::verify("secret", &hash)?))
    })
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

pub(crate) fn jsonwebtoken() -> MadeRouter {
    handler(async || -> Answer {
        use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
        // In the year 2100.
        let claims = Claims { sub: "Ann".to_owned(), exp: 4_102_444_800 };
        let key = b"a secret of the site's, long enough for HS256";
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(key)?)?;
        let decoded =
            decode::<Claims>(&token, &DecodingKey::from_secret(key)?, &Validation::default())?;
        Ok(format!("for {}", decoded.claims.sub))
    })
}
