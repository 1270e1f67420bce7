"""`mulfree registers`: the register map as a table, a C header, or the documentation page."""

from pathlib import Path

import click


@click.command()
@click.option("--c-header", "form", flag_value="c_header", help="a C header")
@click.option("--markdown", "form", flag_value="page", help="the documentation page")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="file to write"
)
def command(form: str | None, output: Path | None) -> None:
    r"""Show the register map, or write what is made from it.

    \b
    Examples:
      mulfree registers
      mulfree registers --c-header -o mulfree_registers.h
    """
    from mulfree.files import write_text
    from mulfree.soc import registers

    if form is None:
        described = registers.register_map()
        rows = (*described.registers.values(), *described.windows.values())
        text = "".join(f"0x{r.offset:05X}  {r.name:<18} {r.title}\n" for r in rows)
    else:
        text = getattr(registers, form)()
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        click.echo(write_text(output, text))
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
