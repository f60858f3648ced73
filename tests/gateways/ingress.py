"""What ingress-nginx makes of manifests: the lines of its template that matter here, for nginx itself.

Written from what the template of version 1.15 does, for one server and one location; what needs Lua is left
out: the choice of a backend, and connections to the sidecar that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ANNOTATION = "nginx.ingress.kubernetes.io/"


def nginx_conf(files: Mapping[str, str]) -> dict[str, str]:
    """The one file that nginx needs, of those of the document; ports are still the document's."""
    annotations = yaml.safe_load(files["ingress.yaml"])["metadata"]["annotations"]
    maps = {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}": each["data"]
        for each in map(yaml.safe_load, files.values())
        if each["kind"] == "ConfigMap"
    }
    controller = maps["ingress-nginx/ingress-nginx-controller"]
    assert controller["use-forwarded-headers"] == controller["enable-underscores-in-headers"] == "false"
    asked_with = maps[annotations[f"{_ANNOTATION}auth-proxy-set-headers"]]
    scheme, _, rest = annotations[f"{_ANNOTATION}auth-url"].partition("://")
    host, _, path = rest.partition("/")
    own = annotations[f"{_ANNOTATION}auth-response-headers"].split(",")
    # In the test the sidecar is on this machine, and has no tokens.
    extra = {name: value for name, value in asked_with.items() if name != "X-Sidecar-Token"}
    text = f"""
events {{}}
http {{
    large_client_header_buffers {controller["large-client-header-buffers"]};
    proxy_headers_hash_max_size 1024;
    underscores_in_headers off;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' '';
    }}
    map $http_x_request_id $req_id {{
        default $http_x_request_id;
        '' $request_id;
    }}
    {controller["http-snippet"]}
    upstream upstream_balancer {{
        server 127.0.0.1:9000;
        keepalive 320;
    }}
    server {{
        listen 127.0.0.1:8000;
        {controller["server-snippet"]}
        location = /_external-auth-Lw-Prefix {{
            internal;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Forwarded-Proto "";
            proxy_set_header X-Request-ID $req_id;
            proxy_set_header Host {host.partition(":")[0]};
            proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Sent-From nginx-ingress-controller;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Auth-Request-Redirect $request_uri;
            {_set(extra.items())}
            proxy_http_version 1.1;
            set $target {scheme}://127.0.0.1:{host.partition(":")[2]}/{path};
            proxy_pass $target;
        }}
        location / {{
            set $best_http_host $http_host;
            auth_request /_external-auth-Lw-Prefix;
            auth_request_set $auth_cookie $upstream_http_set_cookie;
            add_header Set-Cookie $auth_cookie;
            {_taken(own)}
            proxy_set_header Host $best_http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Request-ID $req_id;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $best_http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Scheme $scheme;
            proxy_set_header X-Scheme $scheme;
            proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
            proxy_set_header X-Original-Forwarded-Host $http_x_forwarded_host;
            proxy_set_header Proxy "";
            {_set(maps[controller["proxy-set-headers"]].items())}
            proxy_http_version 1.1;
            {controller["location-snippet"]}
            proxy_pass http://upstream_balancer;
        }}
    }}
}}
"""
    return {"nginx.conf": text}


def _set(headers: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f'proxy_set_header {name} "{value}";' for name, value in headers)


def _taken(names: Iterable[str]) -> str:
    return "\n".join(
        f"auth_request_set $authHeader{place} $upstream_http_{name.lower().replace('-', '_')};\n"
        f"proxy_set_header '{name}' $authHeader{place};"
        for place, name in enumerate(names)
    )
