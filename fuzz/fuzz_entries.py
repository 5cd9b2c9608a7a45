"""Entries, as anybody may post them to a discovery."""

from dmsg_trio._wire.entries import Entry, EntryError


def check(data: bytes) -> None:
    """Any bytes are an entry or an `EntryError`; an entry is read back equal from its own text.

    And verifying it, showing it with another type and spelling it for signing never fail.
    """
    try:
        entry = Entry.parse_untrusted(data)
    except EntryError:
        return
    again = Entry.parse_untrusted(entry.to_json())
    if again != entry or again.to_json() != entry.to_json():
        raise AssertionError(f"{entry} came back as {again}")
    if entry.verify() != again.verify():
        raise AssertionError("the verdict on the signature changed on the way")
    Entry.parse_untrusted(entry.with_server_type("official").to_json())
    Entry.parse_untrusted(entry.as_signed().to_json())


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
