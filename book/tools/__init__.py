"""What makes the book: notebooks executed, pages rendered, the PDF, slides, the cell for Colab.

``asd study``, ``asd book`` and ``asd slides`` call these modules from a checkout of the project.
They are no part of the installed library.
"""
