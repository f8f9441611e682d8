from modules import shared


def run_postprocessing(
    extras_mode, image, image_folder, input_dir, output_dir, show_extras_results, *args, save_output=True
):
    shared.state.begin(job="extras")
    shared.state.end()
    return [image], "", ""
