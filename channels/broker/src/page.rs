//! A page of items, bounded in number and in bytes.

/// Bytes that one `next`, `read` or `list` returns at most; a single larger item is returned alone.
pub const PAGE_BYTES: usize = 4 << 20;

/// Collects the items of one page.
pub struct Page<T> {
    items: Vec<T>,
    bytes: usize,
    max: usize,
}

impl<T> Page<T> {
    /// An empty page for at most `max` items.
    pub fn new(max: usize) -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            max,
        }
    }

    /// Adds an item of that many bytes, unless it exceeds the page's bound. Returns whether the page takes another.
    pub fn push(&mut self, item: T, bytes: usize) -> bool {
        self.bytes += bytes;
        if self.bytes > PAGE_BYTES && !self.items.is_empty() {
            return false;
        }
        self.items.push(item);
        !self.is_full()
    }

    /// Items at most.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Whether the page takes no further item.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.max || self.bytes >= PAGE_BYTES
    }

    /// The items that fit.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_number_or_its_bytes_and_takes_one_large_item() {
        let mut page = Page::new(2);
        assert!(page.push("a", 1) && !page.push("b", 1));
        assert_eq!(page.into_items(), ["a", "b"]);
        let mut page = Page::new(9);
        assert!(page.push("a", PAGE_BYTES - 1) && !page.push("b", 2));
        assert_eq!(page.into_items(), ["a"]);
        let mut page = Page::new(9);
        assert!(!page.push("large", PAGE_BYTES + 1), "nothing fits beside it");
        assert_eq!(page.into_items(), ["large"]);
    }
}
