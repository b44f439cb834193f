"""Statistics on results tables: tests, agreement and intervals, all with patients as the unit.

The structures and sides of one patient succeed and fail together. Taken one by one they would make
every p value too small and every interval too narrow; so each test here gets one value a patient,
and each bootstrap draws whole patients. What the data cannot support is None with a reason in words.
"""
