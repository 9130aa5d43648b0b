"""Pictures of images and segmentations: one convention of orientation, slice numbers and marks for all of them."""
