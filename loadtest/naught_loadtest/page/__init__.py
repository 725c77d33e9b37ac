"""A report as one page of HTML, with its pictures in it: what `--html` writes.

`render` takes the JSON document of a report, so a page can be made of a report of last week too. A page has no
program, and its Content-Security-Policy forbids to load anything: it can be mailed, attached and opened offline.

    markup    elements in which every text is escaped
    scales    axes with round ticks
    chart     a frame with axes, and lines, dots, bars and cells in it
    pictures  the charts of this harness
    sections  headings, verdicts, tables
    run  versus  search     the page of each kind of report

The plot of a chart is an SVG that is stretched to the width of the window, and its labels are HTML that is placed
over it. So text has the same size on a phone and on a wide screen, and lines do not become thinner.
"""

from __future__ import annotations
