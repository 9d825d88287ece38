"""What the files of a data set are labelled with: folders, names of files, or a table."""
