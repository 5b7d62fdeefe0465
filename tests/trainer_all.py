"Imported once by the fork server: every kind, so that each training starts at once."

from trainer import every_kind

every_kind()
