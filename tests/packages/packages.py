# SPDX-License-Identifier: Apache-2.0
"""The Debian packages in a bare system: made, installed, run as their units say, upgraded and removed.

Usage: packages.py --root DIR [--base DIR] [--keep]
  --root DIR  holds deploy/deb.sh and the binaries in the folders of a bazel-bin
  --base DIR  a system of `debootstrap --variant=minbase bookworm` to copy, instead of fetching one
  --keep      leave the system in place and say where it is

Needs root, debootstrap, debhelper, gcc and a Debian mirror ($EVENKEEL_DEBIAN_MIRROR, default http://deb.debian.org/debian).
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

MIRROR = os.environ.get("EVENKEEL_DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = ["evenkeel-controller", "evenkeel-agent", "libevenkeel", "keelctl"]
CONFIG = "etc/evenkeel/controller.textproto"
# What of theirs may not be there once they are removed.
TRACES = ["usr/bin/evenkeel-controller", "usr/bin/evenkeel-agent", "usr/bin/keelctl", "etc/evenkeel", "usr/include/evenkeel",
          "lib/systemd/system/evenkeel-controller.service", "lib/systemd/system/evenkeel-agent@.service",
          "usr/lib/python3/dist-packages/evenkeel", "var/lib/evenkeel", "usr/share/evenkeel"]


def run(*command, seconds=600, **kwargs) -> str:
    """Output of a command that must end well within `seconds`."""
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=seconds, **kwargs)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout[-6000:]}")
    return result.stdout


def in_system(system: pathlib.Path, *command, seconds=600) -> str:
    """A command in the system, with /proc, /sys and a /dev/shm of its own; what it leaves running ends with it."""
    mount = ("mount -t proc proc {0}/proc && mount --rbind /sys {0}/sys && mkdir -p {0}/dev/shm && mount -t tmpfs -o mode=1777 tmpfs {0}/dev/shm && "
             'exec chroot {0} "$@"').format(system)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8",
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mount, "sh", *command,
               seconds=seconds, env=environment)


def make_packages(root: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    run(root / "deploy/deb.sh", "--out", out, "--prebuilt", root)
    made = sorted(out.glob("*.deb"))
    assert sorted(path.name.split("_")[0] for path in made) == sorted(PACKAGES), made
    return made


def an_engine_in_c_builds_against_the_headers(packages: list[pathlib.Path], work: pathlib.Path):
    tree = work / "unpacked"
    for package in packages:
        run("dpkg-deb", "-x", package, tree)
    (work / "engine.c").write_text('#include "engine/evenkeel.h"\n#include "engine/evenkeel_cuda.h"\n'
                                   "int main(void) { return evenkeel_weights_version(0) != 0; }\n")
    library = next(tree.glob("usr/lib/*/libevenkeel.so"))
    run("gcc", "-Wall", "-Werror", f"-I{tree}/usr/include/evenkeel", work / "engine.c", f"-L{library.parent}", "-levenkeel",
        "-o", work / "engine")
    run(work / "engine", env={"LD_LIBRARY_PATH": str(library.parent)})


def make_system(system: pathlib.Path, base: pathlib.Path | None):
    if base:
        run("cp", "-a", "--reflink=auto", base, system)
    else:
        run("debootstrap", "--variant=minbase", "bookworm", system, MIRROR, seconds=900)
    # The host's own way to a mirror; no daemon is started by an installation.
    shutil.copy("/etc/resolv.conf", system / "etc/resolv.conf")
    for path in pathlib.Path("/etc/apt/apt.conf.d").glob("*proxy*"):
        shutil.copy(path, system / "etc/apt/apt.conf.d")
    (system / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (system / "usr/sbin/policy-rc.d").chmod(0o755)


def install(system: pathlib.Path, packages: list[pathlib.Path], *more: str):
    for package in packages:
        shutil.copy(package, system / "root")
    files = [f"/root/{package.name}" for package in packages]
    in_system(system, "apt-get", "install", "-y", "-q", "--no-install-recommends", *more, *files)


def everything(root: pathlib.Path, work: pathlib.Path, base: pathlib.Path | None):
    def say(what):
        print(what, flush=True)

    packages = make_packages(root, work / "debs")
    say(f"made {len(packages)} packages")
    an_engine_in_c_builds_against_the_headers(packages, work)
    say("an engine in C builds against the headers alone")
    system = work / "system"
    make_system(system, base)
    in_system(system, "apt-get", "update", "-q")
    install(system, packages, "python3", "systemd", "curl")
    say("installed")
    shutil.copy(pathlib.Path(__file__).with_name("inside.py"), system / "opt/inside.py")
    print(in_system(system, "python3", "/opt/inside.py", seconds=240), end="")
    # An upgrade keeps what the operator changed.
    with open(system / CONFIG, "a", encoding="utf-8") as config:
        config.write("log_level: \"debug\"\n")
    install(system, packages, "--reinstall")
    assert "log_level" in (system / CONFIG).read_text(), "an upgrade replaced the configuration"
    say("installed again: the configuration is the operator's")
    in_system(system, "apt-get", "purge", "-y", "-q", *PACKAGES)
    left = [trace for trace in TRACES if (system / trace).exists()]
    assert not left, f"left after removal: {left}"
    say("removed: nothing is left")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--base", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("packages.py: needs root, to make a system of its own", file=sys.stderr)
        return 2
    work = pathlib.Path(tempfile.mkdtemp(prefix="evenkeel-packages-"))
    try:
        everything(options.root.resolve(), work, options.base)
    finally:
        if options.keep:
            print(f"kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
