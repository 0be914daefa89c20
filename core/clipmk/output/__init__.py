"""What is written for others: JSON and its schema, HTML pages, overlays, and the colours of parts.

In: finished explanations. Out: documents, pages and images, by `assets/templates`; nothing is computed here.
"""
