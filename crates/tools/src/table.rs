//! The plugin table: every tool of the site, in the order of the front page.
//!
//! One line per tool; the tests below apply to all of them.

use site::Tool;

use crate::{checksum, diagnostics, inspect, passwords};

/// Every tool, in the order of the front page.
pub const TABLE: &[Tool] = &[passwords::TOOL, checksum::TOOL, inspect::TOOL, diagnostics::TOOL];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use site::testing::{get, request, send};

    use super::*;

    /// The site with every tool open.
    fn site() -> axum::Router {
        let names = TABLE.iter().map(|tool| tool.name);
        site::router_with(TABLE, &site::SiteSettings::default().public(names))
    }

    #[test]
    fn names_are_unique_and_fit_into_urls() {
        let mut seen = HashSet::new();
        for Tool { name, .. } in TABLE {
            assert!(seen.insert(name), "{name} is in the table twice");
            let fits =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(!name.is_empty() && name.bytes().all(fits), "{name:?} has other characters");
            assert_ne!(*name, site::ALL_TOOLS, "it stands for every tool in the settings");
            assert_ne!(*name, "site", "it is the name of the site's own tables");
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name:?} has outer hyphens");
        }
    }

    #[test]
    fn every_tool_says_what_it_is() {
        for Tool { name, title, summary, .. } in TABLE {
            assert!(!title.is_empty() && !title.ends_with('.'), "the title of {name}");
            assert!(summary.ends_with('.') && summary.len() < 160, "the summary of {name}");
        }
    }

    #[test]
    fn every_icon_is_in_static_and_can_be_referred_to() {
        for tool in TABLE {
            let icon = site::assets::find(&tool.icon_file())
                .unwrap_or_else(|| panic!("{}: static/{} is missing", tool.name, tool.icon_file()));
            let text = str::from_utf8(icon.content).unwrap();
            assert!(text.contains("id=\"icon\"") && text.contains("currentColor"), "{}", icon.path);
        }
    }

    #[test]
    fn every_tool_has_its_folder() {
        for Tool { name, .. } in TABLE {
            let module = name.replace('-', "_");
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
            for file in ["mod.rs", "logic.rs", "page.html", "tests.rs"] {
                assert!(folder.join(file).is_file(), "{name} has no {file}");
            }
        }
    }

    #[test]
    fn every_template_has_its_tools_name() {
        for tool in TABLE {
            for page in tool.pages {
                let prefix = format!("{}/", tool.name);
                let fits = page.name.starts_with(&prefix) && page.name.ends_with(".html");
                assert!(fits, "{} is not a name for a template of {}", page.name, tool.name);
            }
        }
    }

    /// Escaping depends on the name's extension; this is how a template could lose it.
    #[test]
    fn every_template_escapes_what_it_shows() {
        for page in TABLE.iter().flat_map(|tool| tool.pages) {
            let source: String = page.source.split_whitespace().collect();
            for forbidden in ["|safe", "autoescape"] {
                assert!(!source.contains(forbidden), "{}: {forbidden}", page.name);
            }
            // An attribute without quotes ends at a space.
            let mut outside_of_quotes = source.split('"').step_by(2);
            assert!(!outside_of_quotes.any(|part| part.contains("={{")), "{}", page.name);
        }
    }

    /// For any field names and any request.
    #[test]
    fn visitors_input_never_becomes_markup() {
        const MARKUP: &str = "<i id=x>\"'&";
        let (site, sent) = (site(), "%3Ci+id%3Dx%3E%22%27%26");
        let mut came_back = 0;
        for tool in TABLE {
            let page = get(&site, &tool.path());
            let fields =
                page.text().split(" name=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let names: HashSet<_> = fields.chain(["how", "when", "alg", "name", "any"]).collect();
            for name in names {
                let query = format!("{name}={sent}");
                let asked = request("GET", &format!("{}?{query}", tool.path()));
                let said = request("GET", &tool.path()).header("user-agent", MARKUP);
                let posted = request("POST", &tool.path())
                    .header("content-type", "application/x-www-form-urlencoded");
                for (request, body) in [
                    (asked, String::new()),
                    (said, String::new()),
                    (posted, format!("text=a&{query}")),
                ] {
                    let request = request.header("accept", "text/html");
                    let response = send(&site, request.body(body.into()).unwrap());
                    let html = response.text();
                    assert!(!html.contains("<i id"), "{} {query}: {html}", tool.name);
                    assert!(!html.contains("&lt;i id=x&gt;\""), "{} {query}: {html}", tool.name);
                    came_back += usize::from(html.contains("&lt;i id=x&gt;&quot;"));
                }
            }
        }
        assert!(came_back > 3, "nothing came back at all");
    }

    /// Otherwise the owner's own form is refused as cross-site.
    #[test]
    fn every_posted_form_starts_with_its_token() {
        const FIELD: &str = "<input type=\"hidden\" name=\"csrf\" value=\"{{ csrf }}\">";
        for tool in TABLE {
            for page in tool.pages {
                for form in page
                    .source
                    .split("<form ")
                    .skip(1)
                    .filter(|form| form.contains("method=\"post\""))
                {
                    let (_, inside) = form.split_once('>').unwrap();
                    assert!(inside.trim_start().starts_with(FIELD), "{}: {inside}", page.name);
                }
            }
        }
    }

    #[test]
    fn every_tools_page_has_its_title() {
        let site = site();
        for tool in TABLE {
            let response = get(&site, &tool.path());
            assert_eq!(response.status, 200, "{}", tool.name);
            assert!(response.text().contains(&format!("{}</h1>", tool.title)), "{}", tool.name);
        }
    }

    #[test]
    fn every_tools_page_works_below_a_base_without_inline_code() {
        let site = site();
        for tool in TABLE {
            let request = request("GET", &tool.path()).extension(site::BasePath::new("/project"));
            let response = send(&site, request.body(Default::default()).unwrap());
            let html = response.text();
            for attribute in ["href=\"/", "src=\"/", "action=\"/"] {
                for (at, _) in html.match_indices(attribute) {
                    let link = &html[at + attribute.len() - 1..];
                    let shown = &link[..link.len().min(60)];
                    assert!(link.starts_with("/project/"), "{}: {shown}", tool.name);
                }
            }
            for forbidden in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
                assert!(!html.contains(forbidden), "{}: {forbidden}", tool.name);
            }
        }
    }
}
