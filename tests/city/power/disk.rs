//! An ext4 of its own on a loop device, whose power can be cut.

use std::path::{Path, PathBuf};

use super::namespace::run;

/// What a test with disks calls.
pub(crate) const DISK_TOOLS: &[&str] = &["losetup", "mkfs.ext4", "umount", "python3"];

/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from this moment nothing more reaches the device, and what was
/// not synced is lost. In Python because this workspace forbids `unsafe`.
///
/// The processes are killed first, and in the same breath. An `fdatasync` that is under way when ext4 is shut down may
/// answer that all is well although the data is gone (seen with Linux 6.18: in one of eight cuts, of a program that
/// did nothing else); where the power really goes, nobody lives to hear that answer. SIGKILL marks all threads at once,
/// so none comes back from such a call, while what the kernel is writing for them is still cut in the middle.
const CUT: &str = "import fcntl, os, signal, struct, sys
count = int(sys.argv[1])
mounts = [os.open(path, os.O_RDONLY) for path in sys.argv[2 + count:]]
for process in sys.argv[2:2 + count]:
    os.kill(int(process), signal.SIGKILL)
for mount in mounts:
    fcntl.ioctl(mount, 0x8004587D, struct.pack('I', 2))";

/// No periodic commit of the journal makes durable what nobody synced.
const OPTIONS: &str = "loop,commit=900";

/// A file system, mounted where a node keeps its data. Its loop device goes when it is unmounted.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// A new, empty one of `bytes`, mounted at `mount`. The image is sparse.
    pub(crate) fn new(image: PathBuf, mount: PathBuf, bytes: u64) -> Self {
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", image.to_str().unwrap()]);
        std::fs::create_dir_all(&mount).unwrap();
        let disk = Self { image, mount };
        disk.mount();
        disk
    }

    /// Mounts it; after a cut this replays the journal.
    pub(crate) fn mount(&self) {
        run("mount", &["-o", OPTIONS, path(&self.image), path(&self.mount)]);
    }

    /// How much its file system says is taken, in bytes.
    pub(crate) fn used(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.mount).unwrap();
        (space.f_blocks - space.f_bfree) * space.f_frsize
    }

    /// Unmounts it. Nobody may have a file open on it.
    pub(crate) fn unmount(&self) {
        run("umount", &[path(&self.mount)]);
    }

    /// Cuts the power of these disks and of the processes that use them, at one moment as far as the machine can.
    pub(crate) fn cut<'a>(disks: impl IntoIterator<Item = &'a Disk>, processes: &[u32]) {
        let processes: Vec<String> = processes.iter().map(ToString::to_string).collect();
        let count = processes.len().to_string();
        let mut arguments = vec!["-c", CUT, &count];
        arguments.extend(processes.iter().map(String::as_str));
        arguments.extend(disks.into_iter().map(|disk| path(&disk.mount)));
        run("python3", &arguments);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
