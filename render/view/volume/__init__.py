"""Views of three axes: what a camera around a volume wants and what each place of it shows. Pure; no pixel is touched.

sight.py       what a camera shows of one layer, and the rays of its pixels
cells.py       a cover as cells between planes: what a ray walks through
"""
