"""Asking as little as can be: what is read, what a row can change, where a look begins.

A condition enters; out come the kinds of rows that may change its answer and in which direction
(`steering`), what views keep so that nothing is worked out twice (`matched`), and how customers
stand after they were looked at (`looking`).
"""
