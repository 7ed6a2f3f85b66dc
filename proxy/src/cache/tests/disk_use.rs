//! What the disk has to do for what is learnt.

use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;

/// A disk that counts for itself.
#[derive(Debug)]
struct Counting {
    inner: FileBackend,
    seen: Arc<[AtomicU64; 2]>,
}

impl StorageBackend for Counting {
    fn len(&self) -> std::io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.seen[1].fetch_add(1, Ordering::SeqCst);
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.seen[0].fetch_add(data.len() as u64, Ordering::SeqCst);
        self.inner.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.inner.close()
    }
}

#[tokio::test]
async fn all_that_is_written_and_synced_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen: Arc<[AtomicU64; 2]> = Arc::default();
    let counted = seen.clone();
    let backend = move |file| {
        let inner = FileBackend::new(file)?;
        let seen = counted.clone();
        Ok(Box::new(Counting { inner, seen }) as Box<dyn StorageBackend>)
    };
    let config = config(&folder, config::Secrets::Memory);
    let cache = Cache::open_on(&config, Arc::new(backend));
    let before = cache.status(now());
    let bench = Bench {
        cache,
        folder,
        secrets: config.secrets,
    };
    restart::filled(&bench);
    bench.commit().await;
    let status = bench.cache.status(now());
    assert!(status.written_bytes > before.written_bytes && status.syncs > before.syncs);
    let [written_bytes, syncs] = [0, 1].map(|of| seen[of].load(Ordering::SeqCst));
    assert_eq!((status.written_bytes, status.syncs), (written_bytes, syncs));
    let file = std::fs::metadata(bench.path()).expect("the store");
    assert_eq!(status.file_bytes, file.len());
}
