"""Statistics of the audit of classifiers: do they hold, and how long do they take?"""
