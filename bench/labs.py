"""What the benchmarks' labs have in common."""

from __future__ import annotations

import asyncio
import textwrap

from lab import api
from meshapi.errors import HopliteError
from meshapi.resources import Service, by_word

# A shell script for a workload: nginx on $PORT that answers every request with $ANSWER.
NGINX = """\
cat >nginx.conf <<END
daemon off; pid nginx.pid; worker_processes 1; events {}
http {
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen $PORT; location / { return 200 "$ANSWER"; } }
}
END
nginx -p "$HOME" -e stderr -c nginx.conf
"""


def script(text: str, indent: int) -> str:
    """``text`` as a YAML block scalar's lines."""
    return textwrap.indent(text, " " * indent)


def virtual_address(lab: api.Lab, namespace: str, name: str) -> str:
    """The IPv4 virtual address of a service."""
    return virtual_addresses(lab, namespace, name)[0]


def virtual_addresses(lab: api.Lab, namespace: str, name: str) -> tuple[str, ...]:
    """A service's virtual addresses, IPv4 first."""
    return asyncio.run(_virtual_addresses(lab, namespace, name))


async def _virtual_addresses(lab: api.Lab, namespace: str, name: str) -> tuple[str, ...]:
    async with lab.endpoint.client() as client:
        service = await client.get(by_word("service"), namespace, name)
    if not isinstance(service, Service):
        raise HopliteError(f"{namespace}/{name} is not a Service")
    return service.spec.cluster_ips
