"""The demo: from a shop's file to one self-contained report.

Figures enter, a page of HTML leaves. Read figures.py (everything the report shows; `--json` prints
it), words.py (how numbers and measures are put into words), svg.py and charts.py (figures to
drawings), summary.py (the sentences), report.py with template.html.j2 and style.css.j2 (the page).
"""
