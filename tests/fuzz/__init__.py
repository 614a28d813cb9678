"""What strangers may hand to the package, made up by the thousand: ``make fuzz``.

Every case comes from a seed of its own, so that each can be made again. A finding is an error that is none of the
package's own, a wrong answer, or a call that takes more than a second of processor time.
"""
