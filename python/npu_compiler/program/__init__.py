"""The program format (.npubin): its schema, writer and reader."""
