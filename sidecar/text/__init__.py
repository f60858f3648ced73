"""Text in and out, for every room: JSON, shapes of documents, ids and e-mail addresses.

It knows no word of the product: not what a question, a plan or a workspace is.
"""
