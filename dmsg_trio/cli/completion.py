"""dmsg completion: what a shell needs so that Tab knows the commands, options and names here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

from ._run import program

PROGRAMS: Final = (
    *("dmsg", "dmsgcurl", "dmsghttp", "dmsgweb", "dmsg-socks5", "dmsgip"),
    *("dmsgpty-cli", "dmsgpty-host", "dmsgpty-ui", "dmsg-server", "dmsg-discovery"),
)


class Shell(StrEnum):
    """A shell that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


app = program()


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="For which shell.")],
) -> None:
    """Print what teaches a shell to complete dmsg and its sister programs.

    bash: add  source <(dmsg completion bash)  to ~/.bashrc

    zsh: add  source <(dmsg completion zsh)  to ~/.zshrc, behind compinit

    fish: dmsg completion fish > ~/.config/fish/completions/dmsg.fish
    """
    from typer._completion_shared import get_completion_script

    for name in PROGRAMS:
        variable = f"_{name}_COMPLETE".replace("-", "_").upper()
        script = get_completion_script(prog_name=name, complete_var=variable, shell=shell.value)
        # A first line that only an autoloaded file of one program may have.
        print(script.removeprefix(f"#compdef {name}").strip())
        print()
