"""A PostgreSQL server of the tests' own: real binaries, a data directory in a temporary folder, a Unix socket, and a password that has to be right.
Tests that need none are collected without psycopg, too."""

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from uuid import uuid4

PASSWORD = "pa:ss@wo/rd%1"
QUOTED = "pa%3Ass%40wo%2Frd%251"


def binaries() -> Path | None:
    """The newest PostgreSQL of Debian's packages, or the one on PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parent.parent.name), reverse=True
    )
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).parent if on_path else None


class Server:
    """`stop` and `start` as often as one likes. initdb refuses root, so that as root the server is the user `nobody`."""

    def __init__(self, folder: Path, bin_dir: Path) -> None:
        self.folder, self.bin_dir = folder, bin_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.nobody = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self.nobody:
            os.chown(folder, self.nobody.pw_uid, self.nobody.pw_gid)
        (folder / "pw").write_text(PASSWORD)
        (folder / "pw").chmod(0o644)
        made = ["initdb", "-D", "data", "-U", "improve", "--pwfile=pw", "--auth=scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]  # fmt: skip
        self._run(*made)
        self.start()

    def _as_user(self, command: list[str]) -> list[str]:
        if self.nobody is None:
            return command
        ids = [f"--reuid={self.nobody.pw_uid}", f"--regid={self.nobody.pw_gid}"]
        return ["setpriv", *ids, "--clear-groups", *command]

    def _run(self, program: str, *arguments: str) -> None:
        command = self._as_user([str(self.bin_dir / program), *arguments])
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "fsync": "off"}
        flags = [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            command = self._as_user([str(self.bin_dir / "postgres"), "-D", "data", *flags])
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.conninfo()).close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Fast: whoever is connected is thrown out."""
        if self.process:
            self._run("pg_ctl", "stop", "-D", "data", "-m", "fast", "-w")
            self.process.wait()
            self.process = None

    def conninfo(self, database: str = "postgres") -> str:
        import psycopg

        return psycopg.conninfo.make_conninfo(host=str(self.folder), user="improve", password=PASSWORD, dbname=database)

    def new_database(self) -> str:
        name = f"t{uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, database: str, password: str = QUOTED) -> str:
        return f"postgresql+psycopg://improve:{password}@/{database}?host={self.folder}"
