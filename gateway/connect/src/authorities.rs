//! Reads files with the certificates of authorities.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The authorities of a whole system are some 200 KiB.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Reads the certificates of a PEM file; there is at least one.
///
/// # Errors
/// The file cannot be read or has no certificate. The text of the error follows the file's name.
pub fn authorities(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    // A pipe or a device might be read for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(io::Error::other("it is too large for a file of certificates"));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(io::Error::other("there is no certificate in it")),
        Ok(certificates) => Ok(certificates),
        // The library's words might quote the file, which may be a key by mistake.
        Err(_why) => Err(io::Error::other("it is no PEM")),
    }
}
