"""What -L and -R take, as ssh has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import ConfigError
from dmsg_trio.cli._forward_specs import ForwardSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("8080:localhost:80", ForwardSpec("127.0.0.1", 8080, "localhost", 80)),
        ("0:a.test:1", ForwardSpec("127.0.0.1", 0, "a.test", 1)),
        ("0.0.0.0:8080:10.0.0.1:80", ForwardSpec("0.0.0.0", 8080, "10.0.0.1", 80)),
        (":8080:localhost:80", ForwardSpec("127.0.0.1", 8080, "localhost", 80)),
        ("[::1]:8080:[fe80::1]:65535", ForwardSpec("::1", 8080, "fe80::1", 65535)),
        ("8080:[::1]:80", ForwardSpec("127.0.0.1", 8080, "::1", 80)),
    ],
)
def test_a_port_here_a_host_and_its_port(text: str, spec: ForwardSpec) -> None:
    assert ForwardSpec.parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "", "80", "80:localhost", "a:b:c:d:e", "80::80", "80:[]:80", "[::1:80:a:80", "::1:80:a:80",
        "80:[::1]x:80", "80:a]:80", "80:localhost:", "x:localhost:80", "80:localhost:0",
        "80:localhost:65536", "65536:localhost:80", "-1:localhost:80", "80:localhost:8 0", "٨:a:80",
    ],
)  # fmt: skip
def test_everything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ForwardSpec.parse(text)
    assert text in str(refused.value)


@given(st.text(alphabet="[]:.a0", max_size=20))
def test_whatever_is_typed_is_a_forward_or_refused(text: str) -> None:
    try:
        spec = ForwardSpec.parse(text)
    except ConfigError:
        return
    assert spec.host
    assert spec.port > 0
