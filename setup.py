"""The one thing pyproject.toml cannot say: where this machine keeps libfuse3.

Everything else about the project is in pyproject.toml.
"""

import shlex
import subprocess
import sys

from setuptools import Extension, setup

APT_LINE = "apt-get install gcc libc6-dev pkg-config libfuse3-dev"


def pkg_config(option: str) -> list[str]:
    """Return the words that pkg-config prints for fuse3."""
    command = ["pkg-config", option, "fuse3"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        sys.exit(f"clufs: pkg-config is missing; as root: {APT_LINE}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"clufs: libfuse3 is not found ({error.stderr.strip()}); as root: {APT_LINE}")
    return shlex.split(done.stdout)


setup(
    ext_modules=[
        Extension(
            "clufs.fuse._lowlevel",
            sources=["clufs/fuse/_lowlevel.c"],
            extra_compile_args=[*pkg_config("--cflags"), "-std=gnu11", "-Wall", "-Wextra"],
            extra_link_args=pkg_config("--libs"),
        )
    ]
)
