"""Commands that a host runs for others: on a terminal or on pipes, with nothing left behind."""

from ._command import Account, Command, Exit, StartError, login_environment
from ._guardian import GRACE
from ._guarding import open_guardian
from ._pipes import LINGER, OutputKind, PipedProcess, open_process_on_pipes
from ._terminal import TerminalProcess, open_process_on_terminal

__all__ = [
    "GRACE",
    "LINGER",
    "Account",
    "Command",
    "Exit",
    "OutputKind",
    "PipedProcess",
    "StartError",
    "TerminalProcess",
    "login_environment",
    "open_guardian",
    "open_process_on_pipes",
    "open_process_on_terminal",
]
