"""Data sets as people keep them: class folders, list files, array_record files, prepared TFDS sets."""
