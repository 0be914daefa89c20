"""What is written for others: JSON and its schema, HTML pages, overlays, and the colours of parts.

In: finished explanations. Out: documents, pages and images; nothing is computed here. The pages' templates are in
`assets/templates`.
"""
