"""The study of a palindrome classifier: `palindrome_study` has its steps, in order.

sequences            the classifier, sequences of both classes, palindromes against one mismatch
behaviour            what the model answers, and a pair of values that match against the same pair when it does not
ablations            what is left without what heads compute, and what paths carry
confusions           values taken for one another, and sequences that are made of them to fool it
choice               which heads a figure is about, chosen by their numbers
palindrome_findings  what each result shows, in words computed from it
palindrome_pictures  what the report shows of each result
"""
