"""The Metal device on Linux, over a stand-in for Apple's system that checks how it is used."""
