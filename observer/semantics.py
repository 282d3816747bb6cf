"""What the model knows, for a person and for a machine."""

from __future__ import annotations

from observer.model import SEMANTICS
from observer.model.decision_table import ROWS, cell

_HEADINGS = ("dynid", "static hits", "driver_override", "answer")


def as_object(slug: str | None) -> object:
    """Return one semantics with its decision table, or a list of all.

    Raises KeyError when there is no such semantics, as `as_text` does.
    """
    if slug is None:
        return [_object(each) for each in SEMANTICS]
    return _object(slug)


def _object(slug: str) -> dict[str, object]:
    semantics = SEMANTICS[slug]
    rows = []
    for row in ROWS:
        answer = cell(slug, row)
        rows.append(
            {
                **row._asdict(),
                "match": answer.outcome.match,
                "index": answer.outcome.index,
                "answer": answer.text,
                "applies": answer.applies,
            }
        )
    return {
        "semantics": slug,
        "era": semantics.era,
        "rule": semantics.rule,
        "source": semantics.source,
        "decision_table": rows,
    }


def as_text(slug: str | None) -> str:
    """Return the same for a person: the list, or one with its decision table."""
    if slug is None:
        return "\n".join(map(_paragraph, SEMANTICS))
    return f"{_paragraph(slug)}\n{_table(slug)}"


def _paragraph(slug: str) -> str:
    semantics = SEMANTICS[slug]
    return (
        f"{slug} ({semantics.era})\n"
        f"    {semantics.rule}\n"
        f"    Source: {semantics.source}.\n"
    )


def _table(slug: str) -> str:
    rows = [_HEADINGS]
    rows += [(*row, answer.text) for row in ROWS if (answer := cell(slug, row)).applies]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        .rstrip()
        .join(("    ", "\n"))
        for row in rows
    )
