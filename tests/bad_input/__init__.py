"""Everything bad that people, files and strangers give to the program, in one table: `table.TABLE`.

A row is a `case.Case`: what it is called, how it is made, by which verbs it is read, which field they have to blame and
in which words. `test_table.py` gives each row to each of its verbs; each has to refuse it in a sentence with a remedy,
within five seconds of work. The other tests here hold what a row cannot: that nothing in a file runs, that nothing is
made where something was refused, and that what is odd but sound is taken.
"""
