"""dmsgweb: sites of dmsg in any browser, local ports that lead to keys, and local ports on keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError

from ._listening import LOOPBACK, Bind
from ._main import main_of
from ._numbers import count
from ._options import (
    HERE,
    AsJson,
    KeyOptions,
    ReferenceDiscovery,
    ReferenceLevel,
    SecretArgument,
    ToolLogOptions,
    discovery_option,
    is_typed,
    spread,
)
from ._run import program, run
from ._secrets import refuse_on_command_line
from ._version import Version

if TYPE_CHECKING:
    from ._web_run import Network
    from ._web_settings import Conf

VARIABLE: Final = "DMSGWEBSK"  # as the reference calls it
SRV_VARIABLE: Final = "DMSGWEBSRVSK"
PROXY_PORT: Final = 4445  # of loopback, as the reference has it
WEB_PORT: Final = "8080"
LOCAL_PORT: Final = "8086"
SUFFIX: Final = ".dmsg"
OF_PROXY: Final = ("proxy", "only_dmsg", "aliases")  # and of nothing else


app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgweb", "web")


Raw = Annotated[
    list[str] | None,
    typer.Option(
        "--rt", "-c", metavar="BOOL,…", help="For each port: carry bytes, and not HTTP (false)."
    ),
]
Sessions = Annotated[
    int | None,
    typer.Option("--sess", "-e", min=0, help="Servers to have sessions with; 0: all. [default: 1]"),
]
Envs = Annotated[bool, typer.Option("--envs", "-z", help="Print a file with all settings.")]


@app.callback(invoke_without_command=True)
@spread
def dmsgweb(
    ctx: typer.Context,
    *,
    resolve: Annotated[
        list[str] | None,
        typer.Option(
            "--resolve",
            "-t",
            metavar="PK[:PORT]",
            help="No proxy, but a local port that leads there; again for more.",
        ),
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            "-p",
            metavar="PORT",
            help="With -t: the local port, for each. [default: 8080]",
        ),
    ] = None,
    rt: Raw = None,
    socks: Annotated[
        int | None,
        typer.Option(
            "--socks",
            "-q",
            min=0,
            max=65535,
            envvar="PROXYPORT",
            show_envvar=False,
            help="The port of the proxy; 0: any. [default: 4445]",
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            "--proxy",
            "-r",
            metavar="URL",
            envvar=["DMSG_WEB_PROXY", "ADDPROXY"],
            show_envvar=False,
            help="Another proxy for what is not on dmsg: socks5://host:port or http://host:port;"
            " user:password@ in front of the host only in the variable DMSG_WEB_PROXY or a file.",
        ),
    ] = None,
    only_dmsg: Annotated[
        bool, typer.Option("--only-dmsg", help="Refuse everything that is not on dmsg.")
    ] = False,
    aliases: Annotated[
        Path | None,
        typer.Option(
            "--aliases", help="File with lines 'name = PK[:port]'; read again when it changes."
        ),
    ] = None,
    suffix: Annotated[
        str, typer.Option("--filter", "-f", metavar="SUFFIX", help="What names on dmsg end with.")
    ] = SUFFIX,
    bind: Bind = LOOPBACK,
    sess: Sessions = None,
    discovery: Annotated[str, discovery_option("--dmsg-disc", "-d")] = HERE,
    envs: Envs = False,
    as_json: AsJson = False,
    loglvl: ReferenceLevel = "",
    secret: SecretArgument = "",
    _version: Version = False,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Open sites of dmsg in any browser: a proxy for SOCKS5 and HTTP, until SIGTERM or SIGINT.

    http://PK.dmsg/ leads over dmsg, everything else goes on as if there was no proxy. The variable
    DMSGWEB may name a file with settings (-z); the key may be in it, or in the variable DMSGWEBSK.
    """
    refuse_on_command_line(secret, VARIABLE)
    if ctx.invoked_subcommand:
        return
    from . import _web_settings
    from ._web_conf import PROXY_TEMPLATE

    if envs:
        print(PROXY_TEMPLATE, end="")
        return
    conf = _web_settings.Conf("DMSGWEB")
    network = _network(conf, keys, VARIABLE, discovery, sess, as_json=as_json)
    addresses = conf.words("RESOLVEPK", resolve, ())
    raw = conf.words("RAWTCP", rt, ())
    log.set_up(loglvl)
    if addresses:
        _refuse_beside_resolve(ctx)
        local = _web_settings.ports(conf.words("WEBPORT", port, (WEB_PORT,)), "--port", least=0)
        pairs = _web_settings.forwards(addresses, local)
        kinds = _web_settings.flags(raw, len(pairs), "--rt")

        from ._web_run import ForwardTask

        forwards = [(*pair, kind) for pair, kind in zip(pairs, kinds, strict=True)]
        run(ForwardTask(network=network, host=bind, forwards=forwards).serve, service=True)
        return
    if any(_web_settings.flags(raw, len(raw), "--rt")):
        raise ConfigError("--rt is for ports: say with --resolve where they lead")
    if port:
        raise ConfigError("--port is for --resolve: the proxy's port is --socks")

    from dmsg_trio.apps.web import Aliases, Upstream

    from ._web_run import ProxyTask

    other = conf.text("ADDPROXY", proxy)
    if other and only_dmsg:
        raise ConfigError("--proxy and --only-dmsg: what is not on dmsg goes there, or nowhere")
    upstream = Upstream.parse(other) if other else None
    if upstream and upstream.login and is_typed(ctx, "proxy"):
        raise ConfigError(
            "--proxy: everybody on this machine can read a command line: put the URL with the"
            " password into the variable DMSG_WEB_PROXY"
        )
    task = ProxyTask(
        network=network,
        host=bind,
        port=conf.number("PROXYPORT", socks, PROXY_PORT),
        suffix=_suffix(suffix),
        aliases=Aliases(aliases, suffix=_suffix(suffix)),
        upstream=upstream,
        only_dmsg=only_dmsg,
    )
    run(task.serve, service=True)


@app.command()
@spread
def srv(
    *,
    lport: Annotated[
        list[str] | None,
        typer.Option("--lport", "-l", metavar="PORT,…", help="Ports of 127.0.0.1. [default: 8086]"),
    ] = None,
    dport: Annotated[
        list[str] | None,
        typer.Option(
            "--dport", "-d", metavar="PORT,…", help="For each the dmsg port. [default: 80]"
        ),
    ] = None,
    rt: Raw = None,
    wl: Annotated[
        list[str] | None,
        typer.Option(
            "--wl",
            "-w",
            metavar="[PORT=]PK,…",
            help="Keys that may come, to all ports or to one; again for more. None is everybody.",
        ),
    ] = None,
    allow_file: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-file",
            metavar="[PORT=]FILE",
            help="File with such keys, one on each line; read again when it changes.",
        ),
    ] = None,
    keep_host: Annotated[
        bool, typer.Option("--keep-host", help="Leave the Host header as the client sent it.")
    ] = False,
    sess: Annotated[
        int | None,
        typer.Option(
            "--sess",
            "--dsess",
            "-e",
            min=0,
            help="Servers to have sessions with; 0: all. [default: 1]",
        ),
    ] = None,
    discovery: ReferenceDiscovery = HERE,
    envs: Envs = False,
    as_json: AsJson = False,
    secret: SecretArgument = "",
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Put local ports on dmsg: HTTP, with the client's key in X-Forwarded-For, or bytes.

    The variable DMSGWEBSRV may name a file with settings (-z); the key may be in it, or in the variable
    DMSGWEBSRVSK. Without one there is a new key each time.
    """
    refuse_on_command_line(secret, SRV_VARIABLE)
    from . import _web_settings
    from ._web_conf import SRV_TEMPLATE

    if envs:
        print(SRV_TEMPLATE, end="")
        return
    conf = _web_settings.Conf("DMSGWEBSRV")
    places = conf.words("LOCALPORT", lport, (LOCAL_PORT,))
    local = _web_settings.ports(places, "--lport", may_repeat=True)
    remote = _web_settings.ports(conf.words("DMSGPORT", dport, ("80",)), "--dport")
    if len(local) != len(remote):
        raise ConfigError(
            f"{count(len(local), 'local port')} (--lport) and"
            f" {count(len(remote), 'dmsg port')} (--dport): they are pairs"
        )
    named = conf.words("WHITELISTPKS", wl, ())
    if wl and not named:
        raise ConfigError("--wl names no key; leave it away to let everybody come")
    allow = _web_settings.allowed(named, allow_file or (), remote)
    raw = _web_settings.flags(conf.words("RAWTCP", rt, ()), len(local), "--rt")
    network = _network(conf, keys, SRV_VARIABLE, discovery, sess, as_json=as_json)
    log.set_up()

    from dmsg_trio.apps.web import Exposed

    from ._web_run import SrvTask

    exposed = [
        Exposed(each_local, each_remote, each_allow, each_raw, keep_host)
        for each_local, each_remote, each_allow, each_raw in zip(
            local, remote, allow, raw, strict=True
        )
    ]
    run(SrvTask(network=network, exposed=exposed).serve, service=True)


def _network(
    conf: Conf, keys: KeyOptions, variable: str, url: str, sess: int | None, *, as_json: bool
) -> Network:
    from ._web_run import Network

    return Network(
        sk=conf.secret_key(keys, variable),
        discovery=url,
        sessions=conf.number("DMSGSESSIONS", sess, 1),
        as_json=as_json,
    )


def _refuse_beside_resolve(ctx: typer.Context) -> None:
    """Refuse what the command line says of the proxy, where there is none."""
    for name in OF_PROXY:
        if is_typed(ctx, name):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for the proxy, and --resolve means that there is none")


def _suffix(text: str) -> str:
    suffix = text.lower() if text.startswith(".") else f".{text.lower()}"
    if not suffix.strip(".").replace("-", "a").replace(".", "a").isalnum() or not suffix.isascii():
        raise ConfigError(f"--filter: {text!r} is nothing that a name can end with")
    return suffix
