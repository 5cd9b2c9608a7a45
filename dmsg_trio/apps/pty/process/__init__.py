"""Commands that a host runs for others: on a terminal or on pipes, with nothing left behind."""

from ._child import GRACE
from ._command import Account, Command, Exit, StartError, login_environment
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
    "open_process_on_pipes",
    "open_process_on_terminal",
]
