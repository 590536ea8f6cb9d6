//! What a tools site is made of: tools, pages, assets, errors.
