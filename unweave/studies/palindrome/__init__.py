"""The study of a palindrome classifier: how it compares the two halves of a sequence, and where it fails to.

subject    what is studied: settings, the classifier, sequences of both classes, palindromes against one mismatch
steps      the steps in order
behaviour  steps about what the model answers: accuracy, mismatched pairs, adversarial sequences
weights    steps that are read off the weights
cases      steps that set a pair of values that match against the same pair when it does not
ablations  steps that replace what heads compute
choice     which heads a figure is about, chosen by their numbers
findings   what each result shows, in words computed from it
sections   the report's sections, and `report` the whole of it
"""
