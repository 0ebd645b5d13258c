"""The student: a small encoder of item texts that gives nearly the tuned item tower's vectors.

It learns from the adapter, which was released, and from public texts alone: post-processing, so
that it costs no ε. `shrinking` makes it out of the teacher, `made_texts` writes texts to learn
from, `distilling` trains it, `student_file` keeps it, `encoding` is what uses need of it.
"""
