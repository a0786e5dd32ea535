"""A host that delivers to a DefectDojo: spool and token are there and the courier's."""

import os
import subprocess

USERS = {"scan_user": "nobody", "courier_user": "daemon"}


def give(*paths):
    """To the courier, if there is one."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "daemon:", *paths], check=True)


class DojoHost:
    def __init__(self, root, program, settings, tools, dojo):
        self.root = root
        self.program = program("tidewaiter")
        self.write_settings = settings
        self.tools = tools
        self.dojo = dojo
        self.token = root / "token"
        self.token.write_text(dojo.token + "\n")
        self.token.chmod(0o600)
        self.state = root / "state"
        self.spool = self.state / "spool"
        self.spool.mkdir(mode=0o700, parents=True)
        self.state.chmod(0o711)
        give(self.spool, self.token)

    def defectdojo(self, **over):
        return {"url": self.dojo.url, "token_file": str(self.token), "product_type": "CI", **over}
