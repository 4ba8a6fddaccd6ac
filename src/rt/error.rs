//! What an error of the kernel means, for layers that do not name its numbers.

use std::io;

/// We ran out of something of our own: descriptors, memory, source ports. Says nothing about the peer.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
    )
}

/// The network interface does not exist or is down: may come.
pub fn is_interface_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENETDOWN | libc::EADDRNOTAVAIL))
}

/// The words of an error without its number: `Connection refused`.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let error = io::Error::from_raw_os_error;
        assert!(is_shortage(&error(libc::EMFILE)) && is_shortage(&error(libc::EADDRNOTAVAIL)));
        assert!(!is_shortage(&error(libc::ECONNREFUSED)) && !is_shortage(&io::Error::other("x")));
        assert!(
            is_interface_missing(&error(libc::ENODEV)) && !is_interface_missing(&error(libc::EADDRINUSE))
        );
        assert_eq!(words(&error(libc::ECONNREFUSED)), "Connection refused");
        assert_eq!(words(&io::Error::other("odd (really)")), "odd (really)");
    }
}
