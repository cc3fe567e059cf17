"""The distribution's kernels and busybox, unpacked into a folder: nothing is installed, no root is needed."""

import lzma
import re
import subprocess
from pathlib import Path

MODULES = ("nvme", "virtio_blk", "virtio_pci", "vfio", "vfio_iommu_type1", "vfio_pci")


def run(*command, **options) -> str:
    """A command's output; its errors are shown."""
    return subprocess.run(list(map(str, command)), check=True, text=True, stdout=subprocess.PIPE, **options).stdout


class Packages:
    """The package archive of one architecture, with lists and cache of its own."""

    def __init__(self, arch: str, cache: Path) -> None:
        self.arch = arch
        self.folder = cache / arch
        self.state = self.folder / "apt"
        for each in ("state/lists/partial", "cache/archives/partial"):
            (self.state / each).mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        self.config = self.state / "apt.conf"
        self.config.write_text(
            f'APT::Architecture "{arch}";\nAPT::Architectures {{"{arch}";}};\nAPT::Sandbox::User "";\n'
            f'Dir::State "{self.state}/state";\nDir::State::status "{self.state}/status";\n'
            f'Dir::Cache "{self.state}/cache";\nAcquire::Languages "none";\n'
        )
        self.environment = {"APT_CONFIG": str(self.config), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

    def apt(self, *command) -> str:
        return run(*command, env=self.environment, cwd=self.folder)

    def unpacked(self, name: str) -> Path:
        """A package's files; downloaded once."""
        into = self.folder / name
        if not into.exists():
            self.apt("apt-get", "download", "-qq", name)
            (deb,) = self.folder.glob(f"{name}_*.deb")
            into.mkdir()
            run("dpkg-deb", "-x", deb, into)
            deb.unlink()
        return into

    def kernel(self, suite: str) -> tuple[str, Path, list[Path]]:
        """Version, image and module folders of the suite's default kernel (an empty name: of any suite)."""
        self.apt("apt-get", "update", "-qq")
        meta = f"linux-image-{self.arch}"
        stanzas = [each for each in self.apt("apt-cache", "show", meta).split("\n\n") if each]
        if suite:
            known = [line.split("|") for line in self.apt("apt-cache", "madison", meta).splitlines()]
            versions = [version.strip() for _, version, source in known if f" {suite}/" in source]
            stanzas = [each for each in stanzas if any(f"Version: {version}\n" in each for version in versions)]
        (name,) = re.findall(r"^Depends: (linux-image-\S+)", stanzas[0], re.MULTILINE)[:1]
        folders = [self.unpacked(name)]
        needs = self.apt("apt-cache", "depends", name)
        folders += [self.unpacked(each) for each in re.findall(r"Depends: (linux-(?:binary|modules)-\S+)", needs)]
        version = name.removeprefix("linux-image-")
        (image,) = [path for folder in folders for path in folder.glob("boot/vmlinuz-*")]
        return version, image, folders

    def busybox(self) -> Path:
        return self.unpacked("busybox-static") / "bin" / "busybox"


def modules(folders: list[Path], wanted: tuple[str, ...] = MODULES) -> list[tuple[str, bytes]]:
    """The wanted modules and what they need, each after its needs; a name that is built in is left out."""
    files = {}
    for folder in folders:
        for path in folder.rglob("*.ko*"):
            files[path.name.split(".ko")[0].replace("-", "_")] = path
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:
            return
        data = files[name].read_bytes()
        data = lzma.decompress(data) if files[name].suffix == ".xz" else data
        for needs in re.findall(rb"depends=([^\0]*)\0", data):
            for each in filter(None, needs.decode().split(",")):
                add(each.replace("-", "_"))
        found[name] = data

    for each in wanted:
        add(each)
    return list(found.items())
