"""The data component as source text."""

from agents.playbook.recipes import DataRecipe

# Constant -> the comment behind it.
CONSTANTS = {
    "size": "height and width that the model sees",
    "shift": "pixels, either way",
    "crop": "smallest share of the area that a crop keeps",
    "rotate": "degrees, either way",
    "zoom": "share, either way",
    "jitter": "strength of brightness, contrast and saturation changes",
    "one_of": "strength of the one change drawn per image",
    "cutout": "side of the covered square in pixels",
    "mixup": "alpha of the Beta distribution",
    "cutmix": "alpha of the Beta distribution",
    "view_shift": "pixels between the test-time views",
}


def data_source(recipe: DataRecipe) -> str:
    """Everything below the imports and constants."""
    parts = [_one_of(recipe)] if recipe.one_of else []
    parts.append(
        "def build_transforms(info: Info) -> Transforms:\n"
        + "\n\n".join([_prepare(), _augment(recipe), *_mix(recipe), _answer(recipe)])
    )
    return "\n\n\n".join(parts)


def describe(recipe: DataRecipe) -> str:
    """What happens to a training image, in words."""
    done = {
        "cropped at random": recipe.crop,
        "mirrored": recipe.flip,
        "turned any way up": recipe.flip_vertical,
        "shifted": recipe.shift,
        "rotated a little": recipe.rotate or recipe.zoom,
        "changed in brightness and colour": recipe.jitter,
        "changed in one more way": recipe.one_of,
        "partly covered": recipe.cutout,
        "mixed with others": recipe.mixup or recipe.cutmix,
    }
    words = [word for word, does in done.items() if does]
    views = " Predictions are averaged over several views." if recipe.view_flip or recipe.view_shift else ""
    if not words:
        return f"Images are normalised and not augmented.{views}"
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"Training images are {listed}; each image has its own random draw.{views}"


def _prepare() -> str:
    return (
        "    def prepare(images: torch.Tensor) -> torch.Tensor:\n"
        "        return normalize(resize_batch(images, *SIZE), info)"
    )


def _augment(recipe: DataRecipe) -> str:
    steps = [
        "random_resized_crop(images, *SIZE, scale=(CROP, 1.0))" if recipe.crop else "resize_batch(images, *SIZE)",
        *(["random_flip(images)"] if recipe.flip else []),
        *(["random_flip_vertical(images)"] if recipe.flip_vertical else []),
        *(["random_translate(images, SHIFT)"] if recipe.shift else []),
        *_warp(recipe),
        *(["color_jitter(images, JITTER, JITTER, JITTER)"] if recipe.jitter else []),
        *(["one_of(images)"] if recipe.one_of else []),
        *(["cutout(images, CUTOUT)"] if recipe.cutout else []),
    ]
    body = "".join(f"        images = {step}\n" for step in steps)
    return f"    def augment(images: torch.Tensor) -> torch.Tensor:\n{body}        return normalize(images, info)"


def _warp(recipe: DataRecipe) -> list[str]:
    if recipe.rotate and recipe.zoom:
        return ["random_rotate_and_zoom(images, ROTATE, ZOOM)"]
    if recipe.rotate:
        return ["random_rotate(images, ROTATE)"]
    return ["random_rotate_and_zoom(images, 0, ZOOM)"] if recipe.zoom else []


def _mix(recipe: DataRecipe) -> list[str]:
    head = "    def mix(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:\n"
    if recipe.mixup and recipe.cutmix:
        return [
            head
            + "        if torch.rand(()) < 0.5:\n"
            + "            return mixup(images, labels, info.num_classes, MIXUP)\n"
            + "        return cutmix(images, labels, info.num_classes, CUTMIX)"
        ]
    if recipe.mixup:
        return [head + "        return mixup(images, labels, info.num_classes, MIXUP)"]
    return [head + "        return cutmix(images, labels, info.num_classes, CUTMIX)"] if recipe.cutmix else []


def _answer(recipe: DataRecipe) -> str:
    mix = ", batch=mix" if recipe.mixup or recipe.cutmix else ""
    answer = f"Transforms(train=augment, eval=prepare{mix}{', views=views' if _views(recipe) else ''})"
    return f"{_views(recipe)}    return {answer}\n"


def _views(recipe: DataRecipe) -> str:
    """Test-time views must be as harmless as the augmentation that the model was trained with."""
    if recipe.view_shift:
        shifts = "        shift_view(down, right) for down in (-VIEW_SHIFT, 0, VIEW_SHIFT) for right in (-VIEW_SHIFT, 0, VIEW_SHIFT) if not down * right\n"
        views = f"    views = [\n{shifts}    ]\n"
        if recipe.view_flip:
            views += "    views += [lambda images, shift=shift: shift(flip_view(images)) for shift in views]\n"
        return views
    return "    views = [identity_view, flip_view]\n" if recipe.view_flip else ""


def _one_of(recipe: DataRecipe) -> str:
    """TrivialAugment's idea (Mueller and Hutter 2021) with the operations that keep the label here."""
    operations = [
        "lambda x: x",
        "lambda x: color_jitter(x, brightness=ONE_OF)",
        "lambda x: color_jitter(x, contrast=ONE_OF)",
    ]
    operations += ["lambda x: random_rotate(x, 30 * ONE_OF)", "lambda x: random_rotate_and_zoom(x, 0, ONE_OF / 2)"]
    listed = "".join(f"        {operation},\n" for operation in operations)
    return (
        "def one_of(images: torch.Tensor) -> torch.Tensor:\n"
        '    """Each image goes through one operation, drawn for it (after TrivialAugment, Mueller and Hutter 2021)."""\n'
        f"    operations = [\n{listed}    ]\n"
        "    choice = torch.randint(len(operations), (len(images),), device=images.device)\n"
        "    changed = images.float()\n"
        "    for number, operation in enumerate(operations):\n"
        "        drawn = choice == number\n"
        "        if drawn.any():\n"
        "            changed[drawn] = operation(images[drawn]).float()\n"
        "    return changed"
    )
