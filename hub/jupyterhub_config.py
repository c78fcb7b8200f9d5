"""JupyterHub for one room: each learner has a password, a Unix user and a workbook.

README.md in this folder says how to install and start it.
"""

import pwd
import re
import subprocess
import sys
from grp import getgrnam
from pathlib import Path

from firstuseauthenticator import FirstUseAuthenticator
from jupyterhub.auth import LocalAuthenticator

import course_vit.kit

GROUP = "course-learners"  # the Unix users that this hub has made, and no others
MEMORY = 3 * 1024**3  # bytes of data for each process of a learner
THREADS = "1"
BIN = Path(sys.executable).parent  # of the environment that runs this hub


class Room(FirstUseAuthenticator, LocalAuthenticator):
    """Learners choose a password at their first login, and become Unix users."""

    async def authenticate(self, handler, data):
        name = self.normalize_username(data["username"])
        taken = {user.pw_name for user in pwd.getpwall()}
        if not re.fullmatch("[a-z][a-z0-9]{0,30}", name):
            handler.custom_login_error = (
                "Please choose a name of up to 31 plain letters (a to z) and digits "
                "that begins with a letter."
            )
        elif name in taken - set(getgrnam(GROUP).gr_mem):
            handler.custom_login_error = (
                f"The name {name} belongs to this computer. Please choose another one."
            )
        else:
            return await super().authenticate(handler, data)
        return None


c = get_config()  # noqa: F821, which JupyterHub provides
subprocess.run(["groupadd", "--force", GROUP], check=True)

c.JupyterHub.authenticator_class = Room
c.Authenticator.allow_all = True  # the whole room; a password guards each name
c.LocalAuthenticator.create_system_users = True
c.LocalAuthenticator.add_user_cmd = [
    *("useradd", "--create-home", "--key", "HOME_MODE=0700"),
    *("--groups", GROUP, "--shell", "/bin/bash"),
]

# The learner's own user runs these commands: renew the workbook, then serve it.
START = (
    'umask 077; "$0/course-vit" start ~/workbook && exec prlimit --data="$1" "${@:2}"'
)
SERVER = [str(BIN / "jupyterhub-singleuser")]
c.Spawner.cmd = ["bash", "-c", START, str(BIN), str(MEMORY), *SERVER]
c.Spawner.notebook_dir = "~/workbook"
c.Spawner.default_url = "/lab/tree/00_start_here.ipynb"
c.Spawner.start_timeout = 300  # seconds; twenty learners start at once
c.Spawner.http_timeout = 300
c.JupyterHub.concurrent_spawn_limit = 20
c.Spawner.environment = {
    "JUPYTER_CONFIG_PATH": str(Path(course_vit.kit.__file__).parent / "jupyter"),
    **dict.fromkeys(
        ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], THREADS
    ),
}

# A server that nobody has used for an hour is stopped; the workbook remains.
c.JupyterHub.load_roles = [
    {
        "name": "culler",
        "scopes": [
            "list:users",
            "read:users:activity",
            "read:servers",
            "delete:servers",
        ],
        "services": ["culler"],
    }
]
CULL = [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"]
c.JupyterHub.services = [{"name": "culler", "command": CULL}]
