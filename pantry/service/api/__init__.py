"""The APIs for programs, one file each; the file's name is the surface's name (see `pantry.service.surface`)."""
