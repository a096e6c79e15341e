"""The place of the independent checker, which is not written yet.

It will read the two networks and the certificate from their files and say ``ok`` or name the first bad line. It will
import nothing of ``reluce``: whoever trusts the checker need not trust the tool that wrote the certificate.
"""
