"""How it looks: numbers in, rows of styled text out.

Every drawing is a list of rows, each row a list of Rich segments of an exact width in terminal cells, so that
a printed report and a widget that paints one row at a time share the same functions.
"""
