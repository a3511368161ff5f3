# JupyterHub of one session. It runs as the session's person, and serves nobody else: who reaches
# its socket is the person, or the node's door, which lets in whoever has the person's ticket.
import json
import os
import socket
import struct

from jupyterhub.auth import Authenticator
from jupyterhub.handlers import BaseHandler
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import LocalProcessSpawner
from jupyterhub.utils import url_path_join

plan = json.loads(os.environ.pop("DSVM_HUB"))
environment = dict(os.environ)

# In the folder of the hub, which is its working directory: a whole path may be too long for a
# name of a host, which has no capitals either.
HUB_SOCKET, LAB_SOCKET = "hub.sock", "lab.sock"


class SignIn(BaseHandler):
    async def get(self):
        user = await self.login_user({})
        self.redirect(self.get_next_url(user))


class DoorAuthenticator(Authenticator):
    """The door has looked at the ticket and the cookie: who comes by it is the person."""

    auto_login = True
    auto_login_oauth2_authorize = True

    def login_url(self, base_url):
        return url_path_join(base_url, "door")

    def get_handlers(self, app):
        return [("/door", SignIn)]

    async def authenticate(self, handler, data):
        return plan["user"]


class DoorProxy(Proxy):
    """The door knows the two ways by their paths, and needs not be told of them."""

    should_start = False
    routes = {}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return dict(self.routes)


def listener(path):
    """The number of the process that listens at a socket; 0 = none does."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return 0
        return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


class LabSpawner(LocalProcessSpawner):
    """Starts JupyterLab in the account of the hub, at a socket in the same folder."""

    def make_preexec_fn(self, name):
        return None

    def get_args(self):
        return []

    def get_env(self):
        return environment

    async def start(self):
        # One that a hub has started which was killed before it could write that down lives on.
        self.pid = listener(LAB_SOCKET)
        if not self.pid:
            await super().start()
        return "http+unix://" + LAB_SOCKET


c = get_config()  # noqa: F821
c.JupyterHub.authenticator_class = DoorAuthenticator
c.JupyterHub.proxy_class = DoorProxy
c.JupyterHub.spawner_class = LabSpawner
c.JupyterHub.bind_url = "http://localhost" + plan["base"]
c.JupyterHub.hub_bind_url = "http+unix://" + HUB_SOCKET
c.JupyterHub.hub_socket_mode = 0o600
c.JupyterHub.hub_connect_url = "http+unix://" + HUB_SOCKET
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "jupyterhub_cookie_secret"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.allow_named_servers = False
c.Authenticator.allowed_users = {plan["user"]}
c.Spawner.cmd = plan["lab"]
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = 120
c.Spawner.start_timeout = 120
c.LocalProcessSpawner.popen_kwargs = {"cwd": plan["home"]}
